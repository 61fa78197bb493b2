"""What other systems get of a run on Airflow's own servers: a DAG that follows the reports, and OpenTelemetry's metrics."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any
from urllib.parse import quote

import psycopg2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from dev.load import submit
from dev.world import ORG, OTHER_ORG, request_row
from tests.servers.site import OVER, PROJECT, STAGES, Site, wait_until

DOCS = (PROJECT / "docs/how-to/monitor.md").read_text()
FOLLOWER = "/api/v2/dags/follower"
[TASK] = re.findall(r"def (\w+)\(triggering_asset_events\)", DOCS)
OURS = "airflow.progress_exhaust."


EXAMPLE = PROJECT / "docs/examples/progress_exhaust_notices.py"


@contextmanager
def followers(site: Site, source: str, *dag_ids: str) -> Iterator[None]:
    """Let the DAGs of a file follow the reports, as long as the block lasts."""
    file = site.data / "followers" / "follower.py"
    file.write_text(source)
    try:
        wait_until(lambda: {*dag_ids} <= {dag["dag_id"] for dag in dags(site)}, "the followers")
        yield
    finally:
        file.unlink()
        wait_until(lambda: not {*dag_ids} & {dag["dag_id"] for dag in dags(site)}, "the followers' end")


def dags(site: Site) -> list[dict[str, Any]]:
    return list(site.airflow.call("/api/v2/dags")["dags"])


def test_the_dag_of_the_docs_runs_when_a_report_is_published(site: Site) -> None:
    """Of two files at once, Airflow may keep the second event for the follower's next run: after a third, it has all."""
    started_at = quote(datetime.now(UTC).isoformat())

    def reported_files() -> list[tuple[str, int]]:
        """Return the batches and rows that the follower's runs have logged; nothing while one runs."""
        runs = site.airflow.call(f"{FOLLOWER}/dagRuns?run_after_gte={started_at}")["dag_runs"]
        if not all(run["state"] in OVER for run in runs):
            return []
        assert {(run["run_type"], run["state"]) for run in runs} <= {("asset_triggered", "success")}
        logs = [f"{FOLLOWER}/dagRuns/{run['dag_run_id']}/taskInstances/{TASK}/logs/1" for run in runs]
        lines = "".join(json.dumps(site.airflow.call(log)["content"]) for log in logs)
        return sorted((batch, int(rows)) for batch, rows in re.findall(r'"(\d+) (\d+)"', lines))

    [source] = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    with followers(site, source, "follower"):
        reported = []
        for batches in (site.batches[1:3], site.batches[3:4]):
            run = site.airflow.run(request_ids=[site.request(*batches)])
            for index, batch in enumerate(batches):
                counts = site.airflow.xcom(run, "batch.mark_complete", index)["counts"]
                reported.append((batch, counts["reported"]))
            wait_until(reported_files, "the follower's run")
        wait_until(lambda: len(reported_files()) >= len(reported), "what it logs of the last file")
        assert reported_files() == sorted(reported)


class Mailbox(ThreadingTCPServer):
    """An SMTP server that keeps each mail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TakeMail)
        self.mails: list[tuple[str, Message]] = []  # each with the address that it is for


class TakeMail(StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        def say(line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        to = ""
        say("220 ready")
        while word := self.rfile.readline().decode().strip():
            if word.upper().startswith("RCPT TO:"):
                to = word.partition("<")[2].partition(">")[0]
            if word.upper() == "DATA":
                say("354 send it")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append((to, message_from_bytes(b"".join(lines))))
            say("221 bye" if word.upper() == "QUIT" else "250 done")


@contextmanager
def mailbox(site: Site) -> Iterator[list[tuple[str, Message]]]:
    """Start an SMTP server that Airflow's connection smtp_default names; give its mails."""
    with Mailbox() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        extra = {"disable_tls": True, "disable_ssl": True, "from_email": "reports@example.org"}
        connection = {"connection_id": "smtp_default", "conn_type": "smtp", "host": "127.0.0.1"}
        site.airflow.call("/api/v2/connections", connection | {"port": server.server_address[1], "extra": json.dumps(extra)})
        yield server.mails
        server.shutdown()


def test_each_org_gets_its_notices_and_its_digest(site: Site) -> None:
    """One org has a webhook, one a mail address, and one a connection that does not exist: it keeps nothing from the others."""
    notices, digests = (f"/api/v2/dags/progress_exhaust_{name}/dagRuns" for name in ("notices", "digest"))
    before = site.sql("SELECT request_id || ' ' || dt_job_completed AS sent FROM job_request WHERE dt_job_completed IS NOT NULL")
    addresses = {ORG: "inbox", OTHER_ORG: "admin@example.org", "0129lost": "no-such-connection"}
    for name, value in (("", addresses), ("_sent", [row["sent"] for row in before])):
        site.airflow.call("/api/v2/variables", {"key": f"progress_exhaust_notices{name}", "value": json.dumps(value)})
    since = len(site.messages)

    def ends(path: str) -> list[str]:
        """Return the states of all runs once they have ended, the oldest first. The clock may start some, too."""
        runs = wait_until(lambda: site.airflow.call(f"{path}?order_by=run_after")["dag_runs"], f"a run of {path}")
        return [wait_until(lambda run=run: state(f"{path}/{run['dag_run_id']}"), "the end of a run") for run in runs]

    def state(path: str) -> str | None:
        found = str(site.airflow.call(path)["state"])
        return found if found in OVER else None

    made = site.request(site.batches[2])
    rejected = [
        request_row({"batchFilter": ["0199unknown"]}, label=channel, channel=channel, by="requester", at=datetime.now(UTC))
        for channel in (OTHER_ORG, "0129lost")
    ]
    with closing(psycopg2.connect(site.places.requests)) as connection:
        submit(connection, rejected)
    failed = rejected[0]["request_id"]
    with mailbox(site) as mails, followers(site, EXAMPLE.read_text(), "progress_exhaust_notices", "progress_exhaust_digest"):

        def sent(start: str) -> tuple[list[str], list[tuple[str, str]]]:
            """Return the messages of the webhook, and the mails, each with its address, whose text starts like this."""
            texts = [(address, mail.get_payload()[0].get_payload(decode=True).decode()) for address, mail in mails]
            return (
                [text for text in site.messages[since:] if text.startswith(start)],
                [(address, text) for address, text in texts if text.startswith(f"<pre>{start}")],
            )

        site.airflow.run(request_ids=[made, *(row["request_id"] for row in rejected)])
        wait_until(lambda: all(sent("Request")), "the notices")
        assert "failed" in ends(notices), "of the org without a connection"
        text = f"Request {failed} failed because: No data found: there is no batch 0199unknown"
        first = [f"Request {made}: your report is ready, files=1"], [("admin@example.org", f"<pre>{text}</pre>")]
        assert sent("Request") == first
        assert (mails[-1][1]["Subject"], mails[-1][1]["From"]) == (text, "reports@example.org")

        site.airflow.call(notices, {"logical_date": None})
        assert ends(notices)[-1] == "failed", "what was not sent is tried again"
        assert sent("Request") == first, "what was sent is not sent again"

        site.airflow.call(digests, {"logical_date": None})
        assert ends(digests)[-1] == "failed"
        of_webhook, of_mail = (found[-1] for found in sent("Progress reports of the last day: "))
        assert re.search(r": ready=[1-9]\d* failed=\d+ waiting=\d+(\n.+)*$", of_webhook)
        assert "failed=1 " in of_mail[1] and f"\n{failed}: No data found: there is no batch 0199unknown" in of_mail[1]
        everything = "".join(site.messages[since:]) + "".join(mail.as_string() for _, mail in mails)
    assert not [row["userid"] for row in site.world.enrolments if row["userid"] in everything]


def points(site: Site, since: int) -> dict[str, list[Any]]:
    """Return our metrics that came since so many messages: each one's kind and points, by name."""
    found: dict[str, list[Any]] = {}
    for body in site.metrics[since:]:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                if metric.name.startswith(OURS):
                    kind = str(metric.WhichOneof("data"))
                    found.setdefault(metric.name.removeprefix(OURS), []).extend(
                        (kind, point) for point in getattr(metric, kind).data_points
                    )
    return found


def test_the_metrics_arrive_by_opentelemetry(site: Site) -> None:
    """Each task is a process of its own, which ends within a second: nothing of it may be lost."""
    exports = dict(re.findall(r"^export ((?:AIRFLOW__METRICS|OTEL)_\w+)=(\S+)", DOCS, re.MULTILINE))
    assert len(exports) == 3
    assert {name: value for name, value in exports.items() if site.environment[name] != value}.keys() == {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
    }
    batches = site.batches[1:3]
    since = len(site.metrics)
    request = site.request(*batches)
    run = site.airflow.run(request_ids=[request])
    wait_until(lambda: "requests.succeeded" in points(site, since), "the metrics of the run's last task")
    found = points(site, since)
    counted = {name: sum(point.as_int for kind, point in found[name]) for name in found if found[name][0][0] == "sum"}
    batch_counts = [site.airflow.xcom(run, "batch.mark_complete", index)["counts"] for index in range(len(batches))]
    left_out = sum(
        (Counter({name: n for name, n in one.items() if name.startswith("excluded.")}) for one in batch_counts), Counter()
    )
    assert counted == {
        "requests.succeeded": 1, "batches.done": 2, "learners": sum(one["reported"] for one in batch_counts), **left_out
    }  # fmt: skip
    took = {name.rpartition(".")[2]: found[name] for name in found if name.startswith("stage_duration.")}
    assert set(took) == set(STAGES)
    for measured in took.values():
        assert [(kind, point.count, point.sum > 0) for kind, point in measured] == [("exponential_histogram", 1, True)] * 2
    assert {kind for kind, _ in found["oldest_pending_seconds"]} == {"gauge"}
