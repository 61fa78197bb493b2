"""The table of requests as installs have it: other column types, odd rows, few rights; each verb works on each."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from dev.grants import psql
from progress_exhaust.errors import ClaimLostError, SetupError, SourceError
from progress_exhaust.hooks.requests.releases import CANCELLED, LOST_TOO_OFTEN
from progress_exhaust.report.plan import duplicates
from progress_exhaust.report.request import Batch
from tests.integration.install import GRANTS as GRANTS_FOLDER
from tests.integration.life import (
    CONNECTION,
    DAY,
    SUBMITTED_AT,
    RunHook,
    batch_of,
    chosen,
    connect,
    empty_database,
    holders,
    hook_of,
    insert,
    row_of,
    whole_rows,
)

TABLE = """
CREATE TABLE {name} (
  tag {tag} NOT NULL, request_id {id} NOT NULL, job_id {id}, status {id}, request_data json, requested_by {id},
  requested_channel {id}, dt_job_submitted timestamp, download_urls text[], dt_file_created timestamp,
  dt_job_completed timestamp, execution_time {milliseconds}, err_message {message}, iteration integer, encryption_key {password}
  {newer}, PRIMARY KEY (tag, request_id)
)"""
NEWER = ", batch_number integer, processed_batches {processed}"


@dataclass(frozen=True)
class Shape:
    """How an install made its table."""

    name: str  # of the table, with a schema where the setting has one
    columns: dict[str, str]
    longest: int | None  # err_message that fits

    @property
    def ledger(self) -> str:
        return "ledger of " + self.name.replace(".", " ")

    def hook(self, run_id: str) -> RunHook:
        return hook_of(run_id, self.name, self.ledger)

    def create(self, cursor: Any) -> None:
        name = ".".join(f'"{part}"' for part in self.name.split("."))
        cursor.execute(TABLE.format(name=name, **self.columns))


def columns(tag: str, id: str, milliseconds: str, message: str, password: str, processed: str | None) -> dict[str, str]:
    newer = NEWER.format(processed=processed) if processed else ""
    return {"tag": tag, "id": id, "milliseconds": milliseconds, "message": message, "password": password, "newer": newer}


VARCHAR = "varchar(50)"
NARROW = Shape("job_request", columns(VARCHAR, VARCHAR, "integer", "varchar(100)", VARCHAR, "text"), 100)
MIDDLE = Shape(
    "analytics.dev_job_request", columns("varchar(100)", VARCHAR, "integer", "varchar(300)", "varchar(500)", "json"), 300
)
WIDE = Shape("Sunbird.Job-Requests", columns("text", "text", "bigint", "text", "text", "jsonb"), None)
OLD = Shape("old_job_request", columns(VARCHAR, VARCHAR, "integer", "varchar(100)", VARCHAR, None), 100)
SHAPES = [NARROW, MIDDLE, WIDE]


@dataclass
class Site:
    """A database with a table of some shape, and the ledger in it."""

    cursor: Any
    shape: Shape

    def hook(self, run_id: str = "run") -> RunHook:
        return self.shape.hook(run_id)

    def insert(self, request_id: str, **values: Any) -> tuple[str, str]:
        return insert(self.cursor, request_id, table=self.shape.name, **values)

    def row(self, request_id: str) -> dict[str, Any]:
        return row_of(self.cursor, request_id, self.shape.name)

    def holders(self) -> list[tuple[str, str, str]]:
        return holders(self.cursor, self.shape.ledger)

    def set_claims(self, assignment: str) -> None:
        self.cursor.execute(f'UPDATE "{self.shape.ledger}".claim SET {assignment}')

    def clear(self) -> None:
        """Empty the tables."""
        tables = [".".join(f'"{part}"' for part in self.shape.name.split("."))]
        tables += [f'"{self.shape.ledger}".{name}' for name in ("claim", "batch_run")]
        self.cursor.execute("; ".join(f"DELETE FROM {name}" for name in tables))


@pytest.fixture(scope="module")
def database(servers: None) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        uri = empty_database("progress_exhaust_shapes")
        patch.setenv(CONNECTION, uri)
        connection = connect(uri)
        cursor = connection.cursor()
        cursor.execute('CREATE SCHEMA analytics; CREATE SCHEMA "Sunbird"')
        for shape in SHAPES:
            shape.create(cursor)
            shape.hook("any").prepare()
        yield cursor
        connection.close()


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def site(database: Any, request: pytest.FixtureRequest) -> Site:
    site = Site(database, request.param)
    site.clear()
    return site


def entry(batch_id: str, ending: str = "zip", day: str = "20220920") -> dict[str, Any]:
    path = f"progress-exhaust/r/{batch_id}_progress_{day}.{ending}"
    return {"channel": "org-1", "batchId": batch_id, "filePath": path, "fileSize": 5}


def ids(requests: list[Any]) -> list[str]:
    return [request.request_id for request in requests]


# Every verb


def live_a_life(site: Site) -> None:
    """Use each verb of the hook once or more, as a run's tasks do."""
    password = "k" * 50
    key = site.insert("r1", minutes=1, encryption_key=password, tag="t" * 50, requested_by="u" * 50)
    duplicate = site.insert("r2", minutes=2, encryption_key=password, tag="u" * 50, requested_by="u" * 50, iteration=2,
                       request_data=json.dumps({"batchFilter": ["batch-of-r1"]}))  # fmt: skip
    run = site.hook("run")
    run.prepare()
    assert run.holding_runs() == []
    assert run.count_pending(chosen(batch_number=None, request_ids=["r1", "r2", "r9"])) == 2
    assert run.count_pending(chosen(batch_number=7)) == 0
    assert ids(run.pending(chosen())) == ["r1", "r2"]
    held = run.claim(chosen()).requests
    assert held == run.requests_to_list()
    assert held[0].encryption_key == password
    run.list_batches([], [], duplicates=duplicates(held).items(), batch_ids={key: ["b1", "b2", "b3"]})
    assert ids(run.held_without_duplicates()) == ["r1"]
    assert site.hook("next").holding_runs() == ["run"]

    made, broken = batch_of(key, "b1"), batch_of(key, "b2")
    with run.exclusive_lock("list"):
        run.list_batches([made, broken], [batch_of(key, "b3")], duplicates=duplicates(held).items())
    for batch in (made, broken):
        run.ensure_claim(batch)
    run.record(made, stage="extract", state="running", counts={"enrolled": 3}, seconds=1.25)
    with run.lock_claim(made):
        pass
    run.record(made, stage="package", state="running", size_bytes=7)
    assert (run.reserve_bytes(broken, 1, 7, DAY), run.reserve_bytes(made, 7, 7, DAY)) == (7, None)
    assert not run.complete_batch(made, object_key="k/b1.zip", size_bytes=7)
    assert [one["batchId"] for one in site.row("r1")["processed_batches"]] == ["b1"]
    run.record(broken, stage="pivot", state="failed", error="KeyError: 'é'")
    run.fail(*key, "Batch b2 could not be made")
    for request_id, iteration in (("r1", 1), ("r2", 3)):
        row = site.row(request_id)
        assert (row["status"], row["iteration"], row["err_message"]) == ("FAILED", iteration, "Batch b2 could not be made")
        assert [one["batchId"] for one in row["processed_batches"]] == ["b1"]

    assert run.reclaim_unfinished() == []
    assert site.holders() == [(*key, "run"), (*duplicate, "run")]
    states = {one.batch_id: (one.stage, one.state, one.seconds, one.error) for one in run.run_batches()}
    assert states == {
        "b1": ("mark_complete", "done", {"extract": 1.25}, None),
        "b2": ("pivot", "failed", {}, "KeyError: 'é'"),
        "b3": ("list_batches", "deferred", {}, None),
    }
    run.requeue(*key)
    assert {site.row(one)["status"] for one in ("r1", "r2")} == {"SUBMITTED"}
    assert run.outcomes() == {"SUBMITTED": 2, "duplicate": 1}

    new = site.hook("next")
    requests = new.claim(chosen()).requests
    assert set(requests[0].finished()) == {"b1"}
    with pytest.raises(ClaimLostError, match="held by run next"):
        run.ensure_claim(broken)
    new.list_batches([broken], [], duplicates=duplicates(requests).items())
    assert new.complete_batch(broken, object_key="k/b2.zip", size_bytes=8)
    for request_id in ("r1", "r2"):
        row = site.row(request_id)
        assert (row["status"], row["download_urls"]) == ("SUCCESS", ["k/b1.zip", "k/b2.zip"])
        assert [(one["batchId"], one["fileSize"]) for one in row["processed_batches"]] == [("b1", 7), ("b2", 8)]
    assert new.outcomes() == {"SUCCESS": 2, "duplicate": 1}

    last = site.hook("last")
    (request, _) = last.claim(chosen(request_ids=["r1", "r2"], force=True)).requests
    last.list_batches([], [], finished=[request])
    assert site.row("r1")["status"] == "SUCCESS"
    over = site.hook("after")
    assert ids(over.claim(chosen(ended_runs=["last"])).requests) == []  # r2: its third failure and this death
    assert site.row("r2")["err_message"] == LOST_TOO_OFTEN
    stopped = site.hook("stopped")
    stopped.claim(chosen(request_ids=["r1"], force=True))
    stopped.list_batches([made], [])
    iteration = site.row("r1")["iteration"]
    site.hook("").cancel(key)
    assert [site.row("r1")[column] for column in ("status", "iteration", "err_message")] == ["FAILED", iteration, CANCELLED]
    assert site.holders() == []


def test_every_verb_works(site: Site) -> None:
    live_a_life(site)


def test_a_standalone_batch_needs_no_request(site: Site) -> None:
    site.insert("r1")
    before = whole_rows(site.cursor, site.shape.name)
    run, batch = site.hook(), Batch("", "", "", "b1", "do_1")
    run.list_batches([batch], [])
    run.ensure_claim(batch)
    with run.lock_claim(batch):
        pass
    run.record(batch, stage="package", state="running", size_bytes=3)
    assert not run.complete_batch(batch, object_key="k.zip", size_bytes=3)
    assert [(one.state, one.object_key) for one in run.run_batches()] == [("done", "k.zip")]
    assert whole_rows(site.cursor, site.shape.name) == before


# Messages

LONG_MESSAGES = {
    "ascii": "x" * 5000,
    "multibyte": "é" * 5000,
    "many bytes": "🙂नि" * 2000,
    "just fits or one too many": "y" * 101,
    "a NUL": "it broke\x00here " + "z" * 500,
    "half a character": "it broke \ud83d here " + "z" * 500,
}


@pytest.mark.parametrize("message", LONG_MESSAGES.values(), ids=LONG_MESSAGES)
def test_no_message_fails_the_update(site: Site, message: str) -> None:
    key = site.insert("r1")
    site.hook().claim(chosen())
    site.hook().fail(*key, message)
    row = site.row("r1")
    assert row["status"] == "FAILED"
    readable = message.replace("\x00", "\ufffd").replace("\ud83d", "\ufffd")
    longest = site.shape.longest
    if longest is None or len(message) <= longest:
        assert row["err_message"] == readable
    else:
        assert row["err_message"] == readable[: longest - 1] + "…"


@pytest.mark.parametrize("error", LONG_MESSAGES.values(), ids=LONG_MESSAGES)
def test_no_error_fails_its_record(site: Site, error: str) -> None:
    key = site.insert("r1")
    run = site.hook()
    run.claim(chosen())
    run.list_batches([batch_of(key, "b1")], [])
    run.record(batch_of(key, "b1"), stage="pivot", state="failed", error=error)
    ((state, recorded),) = [(one.state, one.error) for one in run.run_batches()]
    assert (state, recorded) == ("failed", error.replace("\x00", "\ufffd").replace("\ud83d", "\ufffd"))


def test_a_short_message_stays_whole(site: Site) -> None:
    key = site.insert("r1")
    message = "é" * (site.shape.longest or 400)
    site.hook().claim(chosen())
    site.hook().fail(*key, message)
    assert site.row("r1")["err_message"] == message


def test_what_runs_died_of_is_said_however_short_the_column(database: Any) -> None:
    shape = Shape("tiny", columns(VARCHAR, VARCHAR, "integer", "varchar(20)", VARCHAR, "text"), 20)
    shape.create(database)
    site = Site(database, shape)
    site.hook().prepare()
    site.insert("r1", iteration=2)
    site.hook("ended").claim(chosen())
    assert site.hook("next").claim(chosen(ended_runs=["ended"])).requests == []
    row = site.row("r1")
    assert (row["status"], row["iteration"], row["err_message"]) == ("FAILED", 3, LOST_TOO_OFTEN[:19] + "…")


# Which rows


def test_which_iterations_are_picked(site: Site) -> None:
    for status in ("SUBMITTED", "FAILED"):
        for iteration in (None, 0, 2, 3, 7):
            site.insert(f"{status}-{iteration}", status=status, iteration=iteration)
    site.insert("done", status="SUCCESS")
    site.insert("running", status="PROCESSING")
    site.insert("other", job_id="response-exhaust")
    site.insert("odd", status="submitted")
    picked = {"SUBMITTED-None", "SUBMITTED-0", "SUBMITTED-2", "SUBMITTED-3", "SUBMITTED-7"}
    picked |= {"FAILED-None", "FAILED-0", "FAILED-2"}
    assert site.hook().count_pending(chosen()) == len(picked)
    assert set(ids(site.hook().pending(chosen()))) == picked
    assert set(ids(site.hook().claim(chosen()).requests)) == picked


def test_a_missing_iteration_counts_from_none(site: Site) -> None:
    key, dies = site.insert("r1", iteration=None), site.insert("r2", iteration=None)
    site.hook("one").claim(chosen())
    site.hook("one").fail(*key, "it broke")
    site.hook("two").claim(chosen(ended_runs=["one"], request_ids=["r2"]))
    assert site.holders() == [(*dies, "two")]
    assert [site.row(one)["iteration"] for one in ("r1", "r2")] == [1, 1]


def test_a_claim_clears_the_last_outcome_and_keeps_the_files(site: Site) -> None:
    left = {"download_urls": ["old.zip"], "execution_time": 77, "dt_file_created": datetime(2022, 9, 1)}
    site.insert("r1", iteration=3, err_message="yesterday's", dt_job_completed=datetime(2022, 9, 1),
                processed_batches=json.dumps([entry("b1")]), **left)  # fmt: skip
    site.hook().claim(chosen())
    row = site.row("r1")
    assert (row["status"], row["err_message"], row["dt_job_completed"], row["iteration"]) == ("PROCESSING", None, None, 3)
    assert {name: row[name] for name in left} == left
    assert row["processed_batches"] == [entry("b1")]


def test_the_oldest_first_and_no_more_than_most(site: Site) -> None:
    for number in (3, 1, 2):
        site.insert(f"r{number}", minutes=number)
    assert ids(site.hook().pending(chosen(most=2))) == ["r1", "r2"]
    assert ids(site.hook().claim(chosen(most=2)).requests) == ["r1", "r2"]
    assert site.hook().count_pending(chosen(most=2)) == 1


def test_only_one_part_of_the_queue(site: Site) -> None:
    for number in (None, 1, 2):
        site.insert(f"part-{number}", batch_number=number)
    assert ids(site.hook().claim(chosen(batch_number=2)).requests) == ["part-2"]
    assert set(ids(site.hook("all").claim(chosen()).requests)) == {"part-None", "part-1"}


def test_only_the_requests_of_the_named_orgs(site: Site) -> None:
    for org in ("org-1", "org-2", "org-3", None):
        site.insert(f"of-{org}", requested_channel=org)
    some = chosen(channels=("org-1", "org-3"))
    assert site.hook().count_pending(some) == 2
    assert set(ids(site.hook().pending(some))) == {"of-org-1", "of-org-3"}
    assert set(ids(site.hook().claim(some).requests)) == {"of-org-1", "of-org-3"}
    assert set(ids(site.hook("all").claim(chosen()).requests)) == {"of-org-2", "of-None"}


def test_a_backfill_takes_what_was_submitted_before(site: Site) -> None:
    site.insert("before", minutes=-1)
    site.insert("at-midnight", minutes=0)
    # The same moment in another zone: the column is UTC and does not say so.
    midnight = datetime.fromisoformat("2022-09-26T15:30:00+05:30")
    assert midnight.astimezone(UTC).replace(tzinfo=None) == SUBMITTED_AT
    assert ids(site.hook().claim(chosen(submitted_before=midnight)).requests) == ["before"]


def test_rows_left_in_processing_are_free_after_a_while(site: Site) -> None:
    site.insert("old", status="PROCESSING", minutes=-1)
    site.insert("young", status="PROCESSING", minutes=0)
    site.insert("ours", minutes=-10)
    site.hook("living").claim(chosen())
    limit = SUBMITTED_AT.replace(tzinfo=UTC)
    assert ids(site.hook().pending(chosen(abandoned_before=limit))) == ["old"]
    assert ids(site.hook().claim(chosen(abandoned_before=limit)).requests) == ["old"]
    assert [run for *_, run in site.holders()] == ["run", "living"]
    assert site.row("old")["iteration"] == 0  # no run of this product was lost with it


def test_force_by_day_and_by_name(site: Site) -> None:
    today = f"k/b1_progress_{DAY:%Y%m%d}.zip"
    site.insert("today", status="SUCCESS", download_urls=["k/b0_progress_20220101.zip", today])
    site.insert("today-failed", status="FAILED", iteration=3, download_urls=[today])
    site.insert("yesterday", status="SUCCESS", download_urls=["k/b1_progress_20220926.zip"])
    site.insert("no-files", status="FAILED", iteration=3)
    site.insert("other", status="SUCCESS", job_id="response-exhaust", download_urls=[today])
    site.insert("foreign", status="PROCESSING", download_urls=[today])
    assert site.hook().pending(chosen()) == []
    assert set(ids(site.hook().pending(chosen(force=True)))) == {"today", "today-failed"}
    named = chosen(force=True, request_ids=["yesterday", "no-files", "other", "foreign"])
    assert set(ids(site.hook().claim(named).requests)) == {"yesterday", "no-files"}
    assert site.hook().pending(chosen(request_ids=["today"])) == []
    site.hook().claim(chosen(force=True))
    assert {request_id for _, request_id, _ in site.holders()} == {"yesterday", "no-files", "today", "today-failed"}


# Half-done rows


def test_a_csv_that_was_never_packaged_is_made_again_and_not_offered(site: Site) -> None:
    processed = [entry("b1", "csv"), entry("b2"), entry("b3", "csv")]
    key = site.insert("r1", processed_batches=json.dumps(processed))
    run = site.hook()
    (request,) = run.claim(chosen()).requests
    assert set(request.finished()) == {"b2"}
    run.list_batches([batch_of(key, "b1")], [])
    assert run.complete_batch(batch_of(key, "b1"), object_key="k/b1.zip", size_bytes=9)
    row = site.row("r1")
    assert row["download_urls"] == [entry("b2")["filePath"], "k/b1.zip"]
    assert [one["filePath"] for one in row["processed_batches"] if one["batchId"] == "b1"] == ["k/b1.zip"]


def test_a_request_that_is_done_already_offers_its_zips_alone(site: Site) -> None:
    site.insert("r1", processed_batches=json.dumps([entry("b1", "csv"), entry("b2")]))
    (request,) = site.hook().claim(chosen()).requests
    site.hook().list_batches([], [], finished=[request])
    assert site.row("r1")["download_urls"] == [entry("b2")["filePath"]]


@pytest.mark.parametrize("processed", ['{"batchId": "b1"}', "7", '["b1", null]', "null", "[]", None])
def test_odd_processed_batches_count_as_none(site: Site, processed: str | None) -> None:
    make_all_of_it(site, processed)


@pytest.mark.parametrize(
    "processed",
    [
        *("not JSON", "", "[", "NaN", "[" * 3000, '[{"batchId": "b0", "filePath": "b0.zip", "fileSize": 1e999}]'),
        *('[{"batchId": "b0", "filePath": "../b0.zip"}]', r'[{"batchId": "b0", "filePath": "\ud800\u0000.zip"}]'),
        '[{"batchId": "b0", "filePath": [".zip"]}]',
    ],
)
def test_text_that_is_not_json_counts_as_missing(database: Any, processed: str) -> None:
    site = Site(database, NARROW)
    site.clear()
    make_all_of_it(site, processed)


def make_all_of_it(site: Site, processed: str | None) -> None:
    key = site.insert("r1", processed_batches=processed)
    run = site.hook()
    (request,) = run.claim(chosen()).requests
    assert request.finished() == {}
    run.fail(*key, "it broke")
    run.reclaim_unfinished()
    run.list_batches([batch_of(key, "b1")], [])
    assert run.complete_batch(batch_of(key, "b1"), object_key="k/b1.zip", size_bytes=9)
    assert site.row("r1")["download_urls"] == ["k/b1.zip"]


# Times


@pytest.mark.parametrize("end", ["SUCCESS", "FAILED"])
def test_times_are_utc_and_milliseconds(site: Site, end: str) -> None:
    key = site.insert("r1")
    run = site.hook()
    (request,) = run.claim(chosen()).requests
    site.set_claims("claimed_at = now() - interval '90 seconds'")
    began = datetime.now(UTC).replace(tzinfo=None)
    if end == "SUCCESS":
        run.list_batches([], [], finished=[request])
    else:
        run.fail(*key, "it broke")
    row = site.row("r1")
    close = timedelta(seconds=20)
    assert 90_000 <= row["execution_time"] < 110_000
    assert abs(row["dt_job_completed"] - began) < close
    if end == "SUCCESS":
        assert abs(row["dt_file_created"] - began) < close
    else:
        assert row["dt_file_created"] is None


@pytest.mark.parametrize("end", ["SUCCESS", "FAILED"])
def test_a_run_that_stood_still_for_weeks_can_end_its_requests(site: Site, end: str) -> None:
    key = site.insert("r1")
    run = site.hook()
    (request,) = run.claim(chosen()).requests
    site.set_claims("claimed_at = now() - interval '40 days'")
    if end == "SUCCESS":
        run.list_batches([], [], finished=[request])
    else:
        run.fail(*key, "it broke")
    row = site.row("r1")
    assert row["status"] == end
    assert row["execution_time"] > timedelta(days=24) / timedelta(milliseconds=1)  # or as much as an integer takes


# Set-up


def test_a_table_without_the_newer_columns_is_named_and_left_alone(database: Any) -> None:
    """The platform owns the table: no message asks to alter it. An optional column may be missing."""
    OLD.create(database)
    site = Site(database, OLD)
    site.insert("r1")
    before = whole_rows(database, OLD.name)
    with pytest.raises(SetupError) as error:
        site.hook().prepare()
    message = str(error.value)
    assert "lacks processed_batches (jsonb), which the DAG needs. Set job_request_table" in message
    assert "ALTER" not in message and "batch_number" not in message
    assert whole_rows(database, OLD.name) == before
    database.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [OLD.ledger])
    assert database.fetchone() == (0,)

    database.execute(f"ALTER TABLE {OLD.name} ADD COLUMN processed_batches jsonb")
    assert site.hook().prepare() == ["batch_number"]
    assert site.hook().claim(chosen(batch_number=7)).requests == []
    assert ids(site.hook().claim(chosen()).requests) == ["r1"]


def test_a_table_that_is_not_there_is_named(database: Any) -> None:
    with pytest.raises(SetupError, match="no_such_table"):
        Shape("no_such_table", {}, None).hook("run").prepare()


def test_the_ledger_may_be_made_twice(site: Site) -> None:
    key = site.insert("r1")
    site.hook().claim(chosen())
    site.hook("next").prepare()
    assert site.holders() == [(*key, "run")]


# Rights

ROLE = "progress_exhaust_few_rights"
PASSWORD = "s3cret"
GRANTS = (GRANTS_FOLDER / "postgres.sql").read_text()


@pytest.fixture
def poor(database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the hooks connect as a role that may do nothing yet."""
    there = urlsplit(os.environ[CONNECTION])
    drop_role(database)
    database.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; REVOKE ALL ON SCHEMA public FROM public")
    database.execute("REVOKE ALL ON DATABASE progress_exhaust_shapes FROM public")
    monkeypatch.setenv(CONNECTION, urlunsplit(there._replace(netloc=f"{ROLE}:{PASSWORD}@{there.netloc.rpartition('@')[2]}")))
    yield
    drop_role(database)


def drop_role(cursor: Any) -> None:
    cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE])
    if cursor.rowcount:
        cursor.execute(f"DROP OWNED BY {ROLE} CASCADE; DROP ROLE {ROLE}")


def rights_on(site: Site, of: str, statements: str = GRANTS) -> str:
    """Return those statements of docs/grants/postgres.sql that concern the requests or the ledger, for a site."""
    schema, _, table = site.shape.name.rpartition(".")
    chosen = [one for one in statements.split(";\n") if of in one or "DBNAME" in one]
    names = {"schema": schema or "public", "requests": table, "ledger": site.shape.ledger}
    return psql(";\n".join(chosen), role=ROLE, DBNAME="progress_exhaust_shapes", **names)


def grant_requests(site: Site) -> None:
    site.cursor.execute(rights_on(site, ':"schema"'))


def grant_ledger(site: Site) -> None:
    site.cursor.execute(rights_on(site, ':"ledger"'))


def single_rights() -> list[str]:
    """Return the file's grants, each of one column where it names columns."""
    found = []
    for statement in re.sub("--.*", "", GRANTS).split(";\n"):
        words = re.fullmatch(r"\s*GRANT (\w+) \((.+)\) (ON .+)", statement, re.DOTALL)
        if words:
            found += [f"GRANT {words[1]} ({column.strip()}) {words[3]}" for column in words[2].split(",")]
        elif statement.strip():
            found.append(statement.strip())
    return found


RIGHTS = single_rights()


@pytest.mark.usefixtures("poor")
def test_few_rights_are_enough_once_the_ledger_is_there(site: Site) -> None:
    grant_requests(site)
    grant_ledger(site)
    live_a_life(site)


@pytest.mark.usefixtures("poor")
def test_without_the_ledger_few_rights_learn_what_to_run(database: Any) -> None:
    site = Site(database, Shape("no_ledger_yet", WIDE.columns, None))
    site.shape.create(database)
    site.insert("r1")
    grant_requests(site)
    with pytest.raises(SetupError) as error:
        site.hook().prepare()
    message = str(error.value)
    assert site.shape.ledger in message
    assert PASSWORD not in message
    assert site.row("r1")["status"] == "SUBMITTED"

    database.execute(message[message.index("SELECT pg_advisory_xact_lock") :])  # what it says, by one who may
    grant_ledger(site)
    site.clear()
    live_a_life(site)


@pytest.mark.usefixtures("poor")
def test_a_ledger_that_may_not_be_read_is_named(site: Site) -> None:
    grant_requests(site)
    with pytest.raises(SetupError, match=f"permission denied for schema {site.shape.ledger}"):
        site.hook().prepare()


@pytest.mark.usefixtures("poor")
def test_requests_that_may_not_be_read_are_reported(site: Site) -> None:
    grant_ledger(site)
    schema = site.shape.name.rpartition(".")[0] or "public"
    site.cursor.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO {ROLE}')
    site.hook().prepare()
    with pytest.raises(SetupError, match="permission denied for table"):
        site.hook().claim(chosen())


@pytest.mark.usefixtures("poor")
@pytest.mark.parametrize("missing", RIGHTS)
def test_each_right_is_needed_and_reported(database: Any, missing: str) -> None:
    site = Site(database, WIDE)
    site.clear()
    rest = ";\n".join(one for one in RIGHTS if one != missing)
    database.execute(rights_on(site, "", rest))
    with pytest.raises((SetupError, SourceError), match=r"permission denied for (table|schema|database)") as caught:
        live_a_life(site)
    if "DATABASE" not in missing:  # to which there is no connection then
        [right] = re.findall("GRANT (USAGE|SELECT|INSERT|UPDATE|DELETE)", missing)
        told = re.search(r"\(for (.+?)\); docs/grants/postgres.sql has every right", str(caught.value))
        assert told and (right == "USAGE" or right in told[1])
