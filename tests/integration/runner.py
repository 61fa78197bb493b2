"""A process that runs the DAG, again and again: Airflow is imported and its metadata made once.

Each line of its input is an order, and each line of its output a result, in JSON; what Airflow prints goes to the order's
log file. A process of its own, so that Airflow's settings and logging touch no other test.
"""

import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

DAG_ID = "progress_exhaust"
SLEEP_SECONDS = 0.05
OURS = "AIRFLOW_CONN_PROGRESS_EXHAUST_", "AIRFLOW_VAR_PROGRESS_EXHAUST", "PROGRESS_EXHAUST_RETR"


def main() -> None:
    # Standard output is for the results alone: whatever prints, prints to a log.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb

    from tests.airflow_versions import initialize_metrics

    initdb()
    initialize_metrics()
    # dag.test() looks once a second whether a task may run by now.
    wait = time.sleep
    time.sleep = lambda seconds: wait(min(seconds, SLEEP_SECONDS))
    Pool.create_or_update_pool(DAG_ID, 4, "", include_deferred=False)
    for line in sys.stdin:
        order = json.loads(line)
        with printing_to(Path(order["log"])):
            try:
                result = run(order)
            except BaseException:
                result = {"error": traceback.format_exc()}
        print(json.dumps(result), file=results, flush=True)
    for child in multiprocessing.active_children():  # of a listener: it would keep the results' pipe open
        child.kill()  # it heeds no milder word
    os._exit(0)  # without Airflow's goodbyes, which take seconds


@contextmanager
def printing_to(log: Path) -> Iterator[None]:
    kept = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Run the order's DAG once, in its environment."""
    from airflow.sdk.io import store
    from airflow.utils.session import create_session

    from tests.airflow_versions import DagBag, redact

    store._STORE_CACHE.clear()  # a task of a site is a process of its own, and knows the connection as it is then
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    os.environ.update(order["environment"])
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert not bag.import_errors, bag.import_errors
    reads: list[dict[str, Any]] = []
    with recorded(reads) if order["record_reads"] else nullcontext():
        done = bag.dags[order["dag_id"]].test(run_conf=order["conf"], run_after=datetime.fromisoformat(order["run_after"]))
    # As Airflow's supervisor masks what a task logs; dag.test() has none.
    print(redact(order["say"]))
    with create_session() as session:
        tasks = done.get_task_instances(session=session)
    return {
        "run_id": done.run_id,
        "state": str(done.state),
        "tasks": [
            {
                "task_id": ti.task_id,
                "map_index": ti.map_index,
                "state": str(ti.state) if ti.state else None,
                "tries": ti.try_number,
                "label": ti.rendered_map_index,
            }
            for ti in tasks
        ],
        "reads": reads,
    }


@contextmanager
def recorded(reads: list[dict[str, Any]]) -> Iterator[None]:
    """Write down each statement that goes to Cassandra, with its values, and the nodes that were asked.

    Three things ask another node: the driver's speculation and its retry policy, in the same request, and the hook, by a
    request of its own for the same page. Of that one, `resends` is the number of the request before.
    """
    from cassandra.cluster import ResponseFuture, Session

    send, speculate = Session.execute_async, ResponseFuture._on_speculative_execute
    sent, newest, speculated = [], {}, []

    def execute_async(session: Session, query: Any, *arguments: Any, **more: Any) -> Any:
        prepared = getattr(query, "prepared_statement", None)
        if prepared is None:
            reads.append({"query": str(query), "values": []})
        else:
            version = session.cluster.protocol_version
            values = [
                (column.name, as_json(column.type.from_binary(value, version)))
                for column, value in zip(prepared.column_metadata, query.values, strict=True)
            ]
            reads.append({"query": prepared.query_string, "values": values})
        page = id(query), more.get("paging_state")
        read = reads[-1]
        read |= {"resends": newest.get(page), "ended": False, "answered": None, "retries": 0}
        newest[page] = len(reads) - 1
        future = send(session, query, *arguments, **more)
        for add_listener in (future.add_callback, future.add_errback):
            add_listener(lambda _result: ended(read, future))
        sent.append((read, future, query))  # which keeps the id its own
        return future

    def ended(read: dict[str, Any], future: ResponseFuture) -> None:
        # If another node answers later, the driver writes into the future again and calls back a second time.
        if not read["ended"]:
            answered = future.coordinator_host and future.coordinator_host.address
            read |= {"ended": True, "answered": answered, "retries": future._query_retries}

    def on_speculative_execute(future: ResponseFuture) -> None:
        asked = len(future.attempted_hosts)
        speculate(future)
        speculated.extend([future] * (len(future.attempted_hosts) - asked))

    Session.execute_async = execute_async
    ResponseFuture._on_speculative_execute = on_speculative_execute
    try:
        yield
    finally:
        Session.execute_async = send
        ResponseFuture._on_speculative_execute = speculate
        for read, future, _ in sent:
            read["asked"] = [host.address for host in future.attempted_hosts]
            read["speculations"] = sum(one is future for one in speculated)


def as_json(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple | set) else value


if __name__ == "__main__":
    main()
