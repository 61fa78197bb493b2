"""Two Airflows, each with its own metadata database, process one job_request. Their runs have equal ids."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import psycopg2
import pytest

from dev.world import ORG, REQUESTED_AT, Row, World, request_row
from tests.integration.install import REPORT_DAY, RUN_TIMEOUT_SECONDS, Airflow, Install, RunResult
from tests.oracle import expected_csv

LOCK = 4242  # an advisory lock of Postgres: the run that it pauses has nothing else locked that another run needs

PAUSE = f"""
CREATE OR REPLACE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NEW; END $$;
CREATE TRIGGER pause BEFORE UPDATE ON progress_exhaust.batch_run FOR EACH ROW
WHEN (NEW.stage = 'pivot' AND OLD.stage = 'extract' AND NEW.request_id = '%s') EXECUTE FUNCTION pause()
"""


@pytest.fixture(scope="module")
def second_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    runner = Airflow(tmp_path_factory.mktemp("second-airflow"))
    yield runner
    runner.stop()


@pytest.fixture
def second(queue: Install, second_airflow: Airflow) -> Install:
    """Return the same install, as the second Airflow sees it; its next run has the id of the first one's next run."""
    first = queue.airflow
    first._runs = second_airflow._runs = max(first._runs, second_airflow._runs)
    return replace(queue, airflow=second_airflow)


def ask(world: World, number: int) -> Row:
    data = {"batchId": world.batches[0]["batchid"]}
    at = REQUESTED_AT + timedelta(seconds=number)
    return request_row(data, label=f"label{number}", channel=ORG, by=f"requester {number}", at=at)


class Background:
    """A run in another thread."""

    def __init__(self, install: Install) -> None:
        self._result: list[RunResult] = []
        self._thread = threading.Thread(
            target=lambda: self._result.append(install.run_dag(settings={"read_timeout_seconds": 150}))
        )
        self._thread.start()

    def result(self) -> RunResult:
        self._thread.join()
        return self._result[0]


@contextmanager
def paused_run(install: Install, request: Row) -> Iterator[Background]:
    """Start a run and pause it between extract and pivot of a request until the block ends."""
    install.sql(PAUSE.replace("%s", request["request_id"]))
    with closing(psycopg2.connect(install.postgres)) as held:
        held.cursor().execute(f"SELECT pg_advisory_lock({LOCK})")
        run = Background(install)
        try:
            deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
            waits = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
            while not install.sql(waits, [LOCK])[0]["n"]:
                assert time.monotonic() < deadline, "the run does not reach pivot"
                time.sleep(0.2)
            install.sql("CREATE OR REPLACE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
            yield run
        finally:
            held.rollback()
    run._thread.join()
    install.sql("DROP FUNCTION pause CASCADE")


def whole_claims(install: Install) -> list[Row]:
    return install.sql("SELECT * FROM progress_exhaust.claim ORDER BY claimed_at")


def test_a_second_airflow_takes_nothing_and_deletes_nothing(queue: Install, second: Install, world: World) -> None:
    held, own = ask(world, 1), ask(world, 2)
    queue.submit([held])
    with paused_run(queue, held) as first_run:
        row, staged, claims = queue.row(held), staged_files(queue), whole_claims(queue)
        assert row["status"] == "PROCESSING" and any(path.endswith("extract.json") for path in staged)
        queue.submit([own])
        result = second.run_dag()
        assert result.state == "success", result.failed()
        assert (queue.row(held), whole_claims(queue)[:1]) == (row, claims)
        assert set(staged) <= set(staged_files(queue))
        assert queue.row(own)["status"] == "SUCCESS"
        named = second.run_dag({"request_ids": [held["request_id"]]})
        assert named.says(held["request_id"], "another installation", first_installation(claims)[:12], "since")
        assert named.says("make release REQUEST=")
        assert (queue.row(held), whole_claims(queue)[:1]) == (row, claims)
    first = first_run.result()
    assert (first.state, first.run_id) == ("success", result.run_id), "the two runs have equal ids"
    for request in (held, own):
        done = queue.row(request)
        assert (done["status"], done["iteration"]) == ("SUCCESS", 0)
        assert queue.csv(done["download_urls"][0]) == expected_csv(world, request, world.batches[0]["batchid"], REPORT_DAY)
    assert [(claim["outcome"], claim["run_id"]) for claim in whole_claims(queue)] == [("SUCCESS", first.run_id)] * 2
    assert len({claim["installation"] for claim in whole_claims(queue)}) == 2
    assert staged_files(queue) == {}


def test_a_person_lets_the_second_airflow_release_a_request(queue: Install, second: Install, world: World) -> None:
    request = ask(world, 1)
    queue.submit([request])
    with paused_run(queue, request) as first_run:
        dry = second.run_dag({"request_ids": [request["request_id"]], "release_claims": True, "dry_run": True})
        assert dry.state == "success" and queue.row(request)["status"] == "PROCESSING"
        result = second.run_dag({"request_ids": [request["request_id"]], "release_claims": True})
        assert result.state == "success", result.failed()
        assert result.says("released the claim of run", "another installation")
        row, published = queue.row(request), queue.published()
        assert (row["status"], row["iteration"]) == ("SUCCESS", 0)
    assert first_run.result().failed() == ["batch.package"]
    assert (queue.row(request), queue.published()) == (row, published), "the run that lost its claim publishes nothing"
    assert [claim["outcome"] for claim in whole_claims(queue)] == ["released", "SUCCESS"]


def test_release_claims_without_request_ids_is_an_error(queue: Install) -> None:
    result = queue.run_dag({"release_claims": True})
    assert result.failed() == ["wait_for_requests"]
    assert result.says("release_claims needs request_ids")


def test_the_id_is_created_once_for_each_airflow(queue: Install, second: Install, asked: Row) -> None:
    ids = []
    for install in (queue, queue, second):
        install.sql("UPDATE job_request SET status = 'SUBMITTED', processed_batches = NULL")
        assert install.run_dag().state == "success"
        ids.append(whole_claims(queue)[-1]["installation"])
    assert ids[0] == ids[1] != ids[2]
    assert all(len(one) == 32 for one in ids)
    assert asked["request_id"]


def first_installation(claims: list[Row]) -> str:
    return str(claims[0]["installation"])


def staged_files(install: Install) -> dict[str, bytes]:
    """Return every file in staging, of both Airflows."""
    files = {}
    for path in sorted(install.staging.rglob("*")):
        with suppress(FileNotFoundError):  # a run deletes its own meanwhile
            if path.is_file():
                files[path.relative_to(install.staging).as_posix()] = path.read_bytes()
    return files
