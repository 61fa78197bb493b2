"""Every use of a private or fast-moving API, one function each: after an upgrade, look here first.

Each function has one test that fails if the API changes. Drivers are imported inside the functions, so that this module
stays light.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from cassandra.cluster import Cluster, Session
    from cassandra.query import BoundStatement, PreparedStatement

SOCKET_READ_BYTES = 64 * 2**10  # at least a TLS record: the driver does not see the rest of a record until more bytes arrive

# Airflow, in a task


def disconnect_from_supervisor() -> None:
    """Close the connection of a forked process to the supervisor of its task: only the task itself may use it.

    Secrets stay masked in the log of the process.
    """
    from airflow.sdk.execution_time import task_runner

    if hasattr(task_runner, "SUPERVISOR_COMMS"):
        del task_runner.SUPERVISOR_COMMS


def read_stored_variable(key: str) -> str | None:
    """Return a Variable as the API server has it; None only if it answers that the Variable does not exist.

    `Variable.get` asks the worker's environment and secrets backends first, and takes an error of the API server for a missing
    Variable.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable, VariableResult

    answer = task_runner.SUPERVISOR_COMMS.send(GetVariable(key=key))
    if isinstance(answer, VariableResult):
        return answer.value
    if isinstance(answer, ErrorResponse) and answer.error == ErrorType.VARIABLE_NOT_FOUND:
        return None
    raise AirflowRuntimeError(answer) if isinstance(answer, ErrorResponse) else TypeError(f"{type(answer)} for Variable {key}")


def has_scheduler() -> bool:
    """Tell whether a run that this task starts will be executed: `dag.test()` has no scheduler."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    return not isinstance(task_runner.SUPERVISOR_COMMS, InProcessSupervisorComms)


def start_run(dag_id: str, run_id: str, conf: Mapping[str, Any], run_after: datetime) -> bool:
    """Start a run of a DAG from a task that goes on; return False if there is a run with this id.

    Before Airflow 3.3, a started run cannot have a `run_after`: it has the time of its start.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, TriggerDagRun

    more: dict[str, Any] = {"run_after": run_after} if "run_after" in TriggerDagRun.model_fields else {}
    order = TriggerDagRun(dag_id=dag_id, run_id=run_id, conf=dict(conf), **more)
    answer = task_runner.SUPERVISOR_COMMS.send(order)
    if not isinstance(answer, ErrorResponse):
        return True
    if answer.error == ErrorType.DAGRUN_ALREADY_EXISTS:
        return False
    raise AirflowRuntimeError(answer)


def is_run_not_found(error: Exception) -> bool:
    """Tell whether Airflow's answer to a question about a run is that it does not exist."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    if getattr(getattr(error, "response", None), "status_code", None) == 404:
        return True
    return isinstance(error, AirflowRuntimeError) and ("not_found" in str(error) or "404" in str(error))


def task_states(task_instance: Any, dag_id: str, run_id: str) -> dict[str, str]:
    """Return the state of each task of a run that has started; a mapped task has one entry per map index."""
    states = task_instance.get_task_states(dag_id=dag_id, run_ids=[run_id])
    return {task_id: state for tasks in states.values() for task_id, state in tasks.items()}


@cache
def _stats() -> Any:
    try:
        from airflow.sdk.observability import stats
    except ImportError:
        from airflow.stats import Stats  # Airflow 3.1

        return Stats
    return stats if hasattr(stats, "incr") else stats.Stats  # Airflow 3.2 has only a class


def increment_metric(name: str, count: int = 1) -> None:
    """Add to a counter of Airflow's metrics."""
    _stats().incr(name, count)


def set_metric(name: str, value: float) -> None:
    """Set a gauge of Airflow's metrics."""
    _stats().gauge(name, value)


def time_metric(name: str, seconds: float) -> None:
    """Record a duration in Airflow's metrics."""
    _stats().timing(name, timedelta(seconds=seconds))


# Airflow, in the API server: its models have no public API there


class DagRunRow(NamedTuple):
    """A run in Airflow's metadata database."""

    run_id: str
    state: str
    conf: dict[str, Any]


def find_dag_runs(dag_id: str, run_ids: Iterable[str]) -> list[DagRunRow]:
    """Return those of these runs that still exist."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = DagRun.dag_id == dag_id, DagRun.run_id.in_(set(run_ids))
    with create_session() as session:
        rows = session.execute(select(DagRun.run_id, DagRun.state, DagRun.conf).where(*wanted))
        return [DagRunRow(run_id, str(state), conf or {}) for run_id, state, conf in rows]


def find_active_tasks(dag_id: str, run_ids: Iterable[str], prefix: str) -> list[tuple[str, int, str]]:
    """Return the mapped tasks of these runs that have started to wait and have not ended: run id, map index and state.

    :param prefix: how their task ids start
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from sqlalchemy import select

    wanted = (
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id.in_(set(run_ids)),
        TaskInstance.task_id.startswith(prefix, autoescape=True),
        TaskInstance.map_index >= 0,
        TaskInstance.state.in_([state for state in State.unfinished if state is not None]),
    )
    with create_session() as session:
        rows = session.execute(select(TaskInstance.run_id, TaskInstance.map_index, TaskInstance.state).where(*wanted))
        return [(run_id, map_index, str(state)) for run_id, map_index, state in rows]


def find_task_results(dag_id: str, run_ids: Iterable[str], task_id: str) -> dict[str, Any]:
    """Return what a task has returned in these runs, by run id."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(XComModel).where(
        XComModel.dag_id == dag_id,
        XComModel.run_id.in_(set(run_ids)),
        XComModel.task_id == task_id,
        XComModel.key == "return_value",
    )
    with create_session() as session:
        return {xcom.run_id: XComModel.deserialize_value(xcom) for xcom in session.scalars(query)}


class TaskRow(NamedTuple):
    """A task of a batch in Airflow's metadata database. A task that was cleared has no state."""

    run_id: str
    task_id: str
    map_index: int
    state: str | None
    started_at: datetime | None
    ended_at: datetime | None


def find_tasks(dag_id: str, run_ids: Iterable[str], map_indexes: Iterable[int]) -> list[TaskRow]:
    """Return the mapped tasks of these runs with one of these map indexes."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    columns = (TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state)
    times = (TaskInstance.start_date, TaskInstance.end_date)
    wanted = (
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id.in_(set(run_ids)),
        TaskInstance.map_index.in_(set(map_indexes)),
    )
    with create_session() as session:
        rows = session.execute(select(*columns, *times).where(*wanted))
        return [
            TaskRow(run_id, task_id, map_index, state and str(state), *times)
            for run_id, task_id, map_index, state, *times in rows
        ]


def find_retry_times(dag_id: str, run_ids: Iterable[str]) -> dict[tuple[str, str, int], datetime]:
    """Return when Airflow tries tasks again that wait for it: by run id, task id and map index."""
    from airflow.models.dagbag import DBDagBag
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    wanted = (
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id.in_(set(run_ids)),
        TaskInstance.state == TaskInstanceState.UP_FOR_RETRY,
    )
    times = {}
    with create_session() as session:
        waiting = list(session.scalars(select(TaskInstance).where(*wanted)))
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session) if waiting else None
        for task in waiting:
            if dag is not None and dag.has_task(task.task_id):
                task.task = dag.get_task(task.task_id)
                times[task.run_id, task.task_id, task.map_index] = task.next_retry_datetime()
    return times


def find_pool_slots(name: str) -> int | None:
    """Return the slots of a pool; None if there is no such pool."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalar(select(Pool.slots).where(Pool.pool == name))


def write_audit_entry(event: str, dag_id: str, owner: str, extra: str) -> None:
    """Add an entry to Airflow's audit log."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Log(event, owner=owner, extra=extra, dag_id=dag_id))


# Processes


def kill_processes(pool: "ProcessPoolExecutor") -> None:
    """Kill the processes of a pool without waiting for running work. Python 3.14 has `kill_workers` for this."""
    for process in list((pool._processes or {}).values()):
        process.kill()


# Redis


def set_redis_arguments(client: Any, **arguments: Any) -> None:
    """Change arguments of a client's connections, before the first one is made: Airflow's hook does not set them all."""
    client.connection_pool.connection_kwargs.update(arguments)


def redis_answers(client: Any, commands: Sequence[tuple[str, ...]]) -> list[Any]:
    """Send commands to a Redis server in one go; return their answers, errors among them.

    The client's pipeline takes four times as much CPU. Like a pipeline, this sends everything again after a lost connection.

    :param client: of a server, not of a cluster
    """
    import hiredis
    from redis import ResponseError

    packed = b"".join([hiredis.pack_command(one) for one in commands])  # type: ignore[arg-type]  # its types allow one word

    def answer() -> Any:
        try:
            return connection.read_response()
        except ResponseError as error:
            return error

    def exchange() -> list[Any]:
        connection.send_packed_command([packed])
        return [answer() for _ in commands]

    connection = client.connection_pool.get_connection()
    try:
        return cast("list[Any]", connection.retry.call_with_retry(exchange, lambda _error: connection.disconnect()))
    except BaseException:
        connection.disconnect()  # it may have unread answers
        raise
    finally:
        client.connection_pool.release(connection)


def connect_redis_cluster(hook: Any, **arguments: Any) -> Any:
    """Return a client of the Redis Cluster of an Airflow connection.

    It connects at once, so it needs its timeouts when it is made, and Airflow's hook gives it none. Raises ValueError if
    `startup_nodes` in the connection's extra is wrong.

    :param hook: Airflow's hook, not connected
    :param arguments: of each connection
    """
    from redis.cluster import RedisCluster

    connection = hook.get_connection(hook.redis_conn_id)
    extra = connection.extra_dejson
    hook.startup_nodes = extra.get("startup_nodes")
    return RedisCluster(
        host=connection.host,
        port=connection.port or 6379,
        startup_nodes=hook._build_startup_nodes(),
        username=connection.login,
        password=connection.password or None,
        **{name: value for name, value in extra.items() if name == "ssl" or name.startswith("ssl_")},
        **arguments,
    )


# Stores: fsspec and the clients below it


def disable_listing_cache(fs: Any) -> None:
    """Let a file system answer from the store each time, not from an older listing of this process."""
    fs.dircache.use_listings_cache = False
    fs.invalidate_cache()


def put_file(fs: Any, source: "Path", path: str, timeout_seconds: float, **arguments: Any) -> None:
    """Put a local file into a store; raises TimeoutError.

    The client of S3 has no timeout for a store that accepts no more bytes, and fsspec's public method has none either.
    """
    from fsspec.asyn import sync
    from fsspec.exceptions import FSTimeoutError

    if not fs.async_impl:  # not one of the stores that docs/how-to/connect-a-store.md names
        fs.put_file(str(source), path, **arguments)
        return
    try:
        sync(fs.loop, fs._put_file, str(source), path, timeout=timeout_seconds, **arguments)
    except FSTimeoutError:
        raise TimeoutError from None


def send_bodies_at_once(fs: Any) -> None:
    """Let the client of S3 send a body without waiting for the store's "100 Continue": that wait has no timeout."""
    from botocore.handlers import add_expect_header

    fs.session.unregister("before-call.s3", add_expect_header)


def azure_blob_url(fs: Any, path: str) -> str:
    """Return the URL of an object in Azure; adlfs has no method for it."""
    container, _, name = path.partition("/")
    return str(fs.service_client.get_blob_client(container, name).url)


# Cassandra driver


def recreate_cassandra_cluster(made: "Cluster", *, profile: Mapping[str, Any], **changes: Any) -> "Cluster":
    """Return a new cluster with the same settings, and an execution profile; shut down the old one.

    Airflow's hook makes a cluster without execution profiles, and only a profile can read speculatively. The driver takes
    4 KB at a time from a socket: of a page of a thousand rows, that costs as much as to decode it.

    :param made: the cluster of Airflow's hook, not connected
    :param profile: arguments of the profile; the load balancing policy stays
    :param changes: arguments of the new cluster
    """
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile

    made.shutdown()
    cluster = Cluster(
        made.contact_points,
        port=made.port,
        auth_provider=made.auth_provider,
        ssl_options=made.ssl_options,
        cql_version=made.cql_version,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(load_balancing_policy=made.load_balancing_policy, **profile),
        },
        **changes,
    )
    cluster.connection_class = type("Connection", (cluster.connection_class,), {"in_buffer_size": SOCKET_READ_BYTES})
    return cluster


def cassandra_routing_key(partition: Sequence[str]) -> bytes:
    """Return a compound partition key of texts in the form that the cluster hashes."""
    parts = [part.encode() for part in partition]
    return b"".join(len(part).to_bytes(2, "big") + part + b"\0" for part in parts)


def bind_with_routing_key(statement: "PreparedStatement", values: Sequence[Any], routing_key: bytes) -> "BoundStatement":
    """Bind values to a statement that is sent to an owner of `routing_key`. The driver finds no owner for an `IN`."""
    read = _routed_statement_class()(statement)
    read.bind(values)
    read.routing_key = routing_key
    return read


def prepare_again(session: "Session", statement: "PreparedStatement") -> None:
    """Prepare a statement again, after a change of its table. What is bound to it is valid again, too.

    The driver does this by itself only if the server answers that it does not have the statement.
    """
    fresh = session.prepare(statement.query_string)
    vars(statement).update(vars(fresh) | {"is_idempotent": statement.is_idempotent})


@cache
def _routed_statement_class() -> Any:
    from cassandra.query import BoundStatement

    class RoutedStatement(BoundStatement):  # type: ignore[misc]  # the driver has no types
        routing_key = b""  # in place of the driver's property, which cannot be set

    return RoutedStatement


def make_cassandra_protocol_handler(left_as_bytes: Set[str], repair_text: Callable[[bytes], str]) -> Any:
    """Return a protocol handler (for `Session.client_protocol_handler`) that decodes rows our way.

    The driver decodes each value by its column's type and has no option for another type. It also fails the whole page if
    a text is not UTF-8; then the page is decoded once more.

    :param left_as_bytes: names of columns whose values stay bytes
    :param repair_text: makes a text of any bytes. Text inside maps and lists is not repaired
    """
    from cassandra import DriverException
    from cassandra.cqltypes import BytesType, UTF8Type
    from cassandra.protocol import ProtocolHandler, ResultMessage

    class RepairedText(UTF8Type):  # type: ignore[misc]  # the driver has no types
        @staticmethod
        def deserialize(data: bytes, _protocol_version: int) -> str:
            return repair_text(data)

    def repaired(kind: Any) -> Any:
        return RepairedText if issubclass(kind, UTF8Type) else kind

    driver_result: Any = ProtocolHandler.message_types_by_opcode[ResultMessage.opcode]  # the compiled one, if there is one

    class Result(driver_result):  # type: ignore[misc]
        has_broken_text = False

        def recv_results_rows(self, f: Any, protocol_version: int, user_types: Any, known: Any, *more: Any) -> None:
            start = f.tell()
            try:
                super().recv_results_rows(f, protocol_version, user_types, known, *more)
            except DriverException:
                f.seek(start)
                self.has_broken_text = True
                known = known and [(*column, repaired(kind)) for *column, kind in known]
                super().recv_results_rows(f, protocol_version, user_types, known, *more)

        def recv_results_metadata(self, *args: Any) -> None:
            super().recv_results_metadata(*args)
            self.column_metadata: Any = [
                (*column, name, BytesType if name in left_as_bytes else repaired(kind) if self.has_broken_text else kind)
                for *column, name, kind in self.column_metadata or ()
            ]

    class Handler(ProtocolHandler):  # type: ignore[misc]
        message_types_by_opcode = ProtocolHandler.message_types_by_opcode | {ResultMessage.opcode: Result}

    return Handler
