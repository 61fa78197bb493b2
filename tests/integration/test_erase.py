"""`erase`: a learner is erased from the packages, whatever runs and kills happen meanwhile, and nothing shows the learner."""

import io
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dev.world import Row, World
from progress_exhaust import cli, compat, read_report
from progress_exhaust.erase.erasure import Action, ErasedPackage, Erasure, FoundBy
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.report_store import ReportStoreHook
from progress_exhaust.hooks.requests.packages import Packages
from progress_exhaust.report.package import Packed, write_package
from progress_exhaust.report.request import Batch
from progress_exhaust.security.levels import Level, Protection
from progress_exhaust.settings import Settings
from progress_exhaust.stages.site_setup import Site
from tests.integration.install import PROJECT, REPORT_DAY, Install
from tests.integration.life import chosen, database_of_requests, emptied, hook_of, insert, row_of
from tests.integration.test_cli import command

LEARNER, OTHER = "14de28f4-5b98-4694-bca2-01c6064f4c00", "4b49cc68-107e-4eec-a99c-ff4155d098c5"
KEY, OTHER_KEY = "progress-exhaust/r1/b1_progress_20220927.zip", "progress-exhaust/r1/b2_progress_20220927.zip"
STANDALONE = "progress-exhaust/b1_progress_20220926.zip"
REFERENCE = "DPO-2026-17"
DOCUMENTED = re.findall(
    r"^(PYTHONPATH=PLUGINS_FOLDER .* erase .*)$", (PROJECT / "docs" / "how-to/protect-learner-data.md").read_text(), re.MULTILINE
)


@pytest.fixture(scope="module")
def database(servers: None) -> Iterator[Any]:
    with database_of_requests("progress_exhaust_erase") as cursor:
        yield cursor


@pytest.fixture
def cursor(database: Any) -> Any:
    return emptied(database)


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what is written to the audit log."""
    entries: list[Any] = []
    monkeypatch.setattr(compat, "write_audit_entry", lambda *entry: entries.append(entry))
    return entries


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Return a container with a package of the learner in two batches of a request, and one without a request."""
    for key, learner in ((KEY, LEARNER), (OTHER_KEY, OTHER), (STANDALONE, LEARNER)):
        publish(tmp_path / "reports" / key, learner)
    return tmp_path / "reports"


def publish(path: Path, learner: str, protection: Protection | None = None) -> None:
    csv = f"User UUID\r\n{learner}\r\n".encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_package([Packed("b.csv", io.BytesIO(csv), len(csv))], path, REPORT_DAY, protection or Protection(Level.PLAIN))


def finished(cursor: Any, request_id: str = "r1", keys: tuple[str, ...] = (KEY, OTHER_KEY), **columns: Any) -> tuple[str, str]:
    processed = [{"batchId": key.split("/")[-1][:2], "filePath": key} for key in keys]
    done = {"status": "SUCCESS", "download_urls": list(keys), "processed_batches": json.dumps(processed)}
    return insert(cursor, request_id, **done | columns)


def erase(reports: Path, *, apply: bool = True, make_again: bool = True, keys: tuple[str, ...] = ()) -> list[ErasedPackage]:
    settings = Settings(reports_container_url=reports.as_uri(), staging_url=(reports.parent / "staging").as_uri())
    reference = REFERENCE if apply else None
    return list(Erasure(Site(settings, "erase"), LEARNER, keys, make_again=make_again, reference=reference).run())


def published(reports: Path) -> list[str]:
    return sorted(path.relative_to(reports).as_posix() for path in reports.rglob("*.zip"))


def test_the_next_run_makes_the_package_again_and_the_others_stay(cursor: Any, reports: Path, audit: list[Any]) -> None:
    key = finished(cursor)
    before = row_of(cursor, "r1")
    [standalone, found] = sorted(erase(reports, apply=False), key=lambda one: one.package)
    assert (found.package, found.found_by, found.action, found.requests) == (KEY, FoundBy.FILE, Action.MAKE_AGAIN, ("r1",))
    assert (standalone.package, standalone.action, standalone.requests) == (STANDALONE, Action.DELETE, ())
    assert (published(reports), row_of(cursor, "r1"), audit) == (sorted([KEY, OTHER_KEY, STANDALONE]), before, [])

    assert [one.is_done for one in erase(reports)] == [True, True]
    assert published(reports) == [OTHER_KEY]
    row = row_of(cursor, "r1")
    assert (row["status"], row["download_urls"]) == ("SUBMITTED", [OTHER_KEY])
    assert [entry["batchId"] for entry in row["processed_batches"]] == ["b2"]
    assert [request.key for request in hook_of("run").claim(chosen()).requests] == [key]
    entries = {json.loads(extra)["package"]: (event, dag_id, json.loads(extra)) for event, dag_id, _, extra in audit}
    assert entries[KEY] == (
        "progress_exhaust_erase", "progress_exhaust", {"package": KEY, "action": "make_again", "reference": REFERENCE},
    )  # fmt: skip
    assert entries[STANDALONE][2]["action"] == "delete"
    assert LEARNER not in repr(audit)


def test_a_deleted_package_is_no_longer_listed_and_its_requester_reads_why(cursor: Any, reports: Path, audit: list[Any]) -> None:
    finished(cursor, keys=(KEY,))
    finished(cursor, "duplicate", keys=(KEY,))
    assert {one.package: one.requests for one in erase(reports, make_again=False)}[KEY] == ("r1", "duplicate")
    for request_id in ("r1", "duplicate"):
        row = row_of(cursor, request_id)
        assert (row["status"], row["download_urls"], row["processed_batches"]) == ("SUCCESS", None, None)
        assert row["err_message"] == "A file of this request was deleted to protect a learner's data"
    assert published(reports) == [OTHER_KEY]
    assert erase(reports) == []


def test_duplicates_of_a_request_are_made_again_together(cursor: Any, reports: Path, audit: list[Any]) -> None:
    finished(cursor)
    finished(cursor, "duplicate")
    erase(reports)
    assert [row_of(cursor, one)["status"] for one in ("r1", "duplicate")] == ["SUBMITTED", "SUBMITTED"]


def test_a_package_stays_while_a_run_holds_its_request(cursor: Any, reports: Path, audit: list[Any]) -> None:
    finished(cursor)
    hook_of("run").claim(chosen(request_ids=["r1"], force=True))
    cursor.execute("UPDATE job_request SET download_urls = %s", [[KEY]])
    assert_stays(cursor, reports, "request r1 is held by run run of another installation")


def test_a_package_stays_while_another_program_makes_its_request(cursor: Any, reports: Path, audit: list[Any]) -> None:
    finished(cursor, status="PROCESSING")
    assert_stays(cursor, reports, "another program makes request r1")


def assert_stays(cursor: Any, reports: Path, reason: str) -> None:
    before = row_of(cursor, "r1")
    found = {one.package: one for one in erase(reports)}[KEY]
    assert not found.is_done and found.note.startswith(reason) and found.note.endswith(": run the command again later")
    assert row_of(cursor, "r1") == before
    assert published(reports) == sorted([KEY, OTHER_KEY])


def test_a_package_stays_while_a_run_publishes_it(cursor: Any, reports: Path, audit: list[Any]) -> None:
    batch, run = Batch("", "", "", "b1", "do_1"), hook_of("run")
    run.list_batches([batch], [])
    with run.lock_claim(batch):
        found = {one.package: one for one in erase(reports)}[STANDALONE]
    assert (found.is_done, found.note) == (False, "a run publishes it at this moment: run the command again later")
    assert STANDALONE in published(reports)
    erase(reports)
    assert published(reports) == [OTHER_KEY]


def test_a_run_that_takes_the_request_between_the_two_steps_keeps_its_file(
    cursor: Any, reports: Path, audit: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (reports / STANDALONE).unlink()
    finished(cursor)
    lock = Packages.lock

    def run_meanwhile(packages: Packages, package: str) -> Any:
        if audit:  # after the first step
            hook_of("run").claim(chosen())
        return lock(packages, package)

    monkeypatch.setattr(Packages, "lock", run_meanwhile)
    [found] = erase(reports)
    assert not found.is_done and found.note.startswith("request r1 is held by run run")
    assert KEY in published(reports)


@pytest.mark.parametrize("make_again", [True, False])
def test_a_rerun_after_a_kill_ends_in_the_same_state(
    cursor: Any, reports: Path, audit: list[Any], monkeypatch: pytest.MonkeyPatch, make_again: bool
) -> None:
    finished(cursor)

    def killed(*_: Any) -> None:
        raise SourceError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(ReportStoreHook, "delete_package", killed)
        with pytest.raises(SourceError):
            erase(reports, make_again=make_again)
    erase(reports, make_again=make_again)
    assert published(reports) == [OTHER_KEY]
    row = row_of(cursor, "r1")
    assert (row["status"], row["download_urls"]) == ("SUBMITTED" if make_again else "SUCCESS", [OTHER_KEY])


# With a real run, and through the command line


def test_a_learner_is_erased_and_the_batch_is_made_again(queue: Install, asked: Row, world: World) -> None:
    assert queue.run_dag().state == "success"
    [key] = queue.published()
    learner = read_report(queue.reports / key)["User UUID"][0]
    assert learner in {user for user, _ in world.users}
    home, (to_list, to_apply) = queue.airflow.home, DOCUMENTED
    listed = command(queue, home, "--json", answer=f"{learner}\n", start=to_list)
    assert listed.returncode == 1, listed.stderr
    [found] = json.loads(listed.stdout)["packages"]
    expected = {"package": key, "found_by": "file", "action": "make_again", "requests": [asked["request_id"]]}
    assert found == expected | {"is_done": False, "note": ""}
    queue.session.execute(
        f"DELETE FROM {queue.names.enrolments_by_batch} WHERE batchid = %s AND courseid = %s AND userid = %s",
        (world.batches[0]["batchid"], world.batches[0]["courseid"], learner),
    )
    applied = command(queue, home, answer=f"{learner}\n", start=to_apply)
    assert applied.returncode == 0, applied.stderr
    assert f"{key}  file      deleted, and made again by the next run  {asked['request_id']}" in applied.stdout
    assert "packages read=1 with_the_learner=1 left=0 protected_not_enrolled=0" in applied.stdout
    assert (queue.published(), queue.row(asked)["status"]) == ({}, "SUBMITTED")
    with closing(sqlite3.connect(queue.airflow.metadata)) as metadata:
        rows = metadata.execute("SELECT dag_id, owner, extra FROM log WHERE event = 'progress_exhaust_erase'").fetchall()
    assert [(dag_id, bool(owner), json.loads(extra)["reference"]) for dag_id, owner, extra in rows] == [
        ("progress_exhaust", True, REFERENCE)
    ]
    assert learner not in listed.stdout + listed.stderr + applied.stdout + applied.stderr + repr(rows)
    assert queue.run_dag().state == "success"
    assert len(queue.csv(key).splitlines()) == 11
    assert learner.encode() not in queue.csv(key)


def test_a_protected_package_is_found_by_the_enrolment(
    queue: Install, asked: Row, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in queue.environment().items():
        monkeypatch.setenv(name, value)
    assert queue.run_dag().state == "success"
    [key] = queue.published()
    learner = read_report(queue.reports / key)["User UUID"][0]
    publish(queue.reports / key, learner, Protection(Level.PASSWORD, "secret"))
    spark = f"progress-exhaust/R/{world.batches[0]['batchid']}_progress_20200101.zip"
    publish(queue.reports / spark, learner, Protection(Level.PASSWORD, "secret"))

    def found(user_id: str, *keys: str, **settings: str) -> tuple[dict[str, str], int]:
        site = Site(Settings(**queue.all_settings(**settings)), "erase")
        erasure = Erasure(site, user_id, keys, make_again=True, reference=None)
        return {one.package: one.found_by for one in erasure.run()}, erasure.not_opened

    assert found(learner) == ({key: FoundBy.ENROLMENT, spark: FoundBy.UNKNOWN}, 0)
    assert found(learner, enrolments_table=queue.names.enrolments_by_user) == found(learner)
    assert found(learner, "secret") == ({key: FoundBy.FILE, spark: FoundBy.FILE}, 0)
    assert found(OTHER) == ({spark: FoundBy.UNKNOWN}, 1)
    assert found(OTHER, "secret") == ({}, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["../x"], "The user id is not valid"),
        (["user-1", "--apply"], "--apply needs --reference"),
        (["user-1", "--apply", "--reference", "about USER-1"], "--reference has the id of the learner"),
        (["user-1", "--key-file", "/no/such/file"], "The key file cannot be read: No such file or directory"),
    ],
)
def test_wrong_input_of_erase_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_PROGRESS_EXHAUST", "{}")
    assert cli.main(["erase", *words]) == 2
    assert said in capsys.readouterr().err


def test_without_the_audit_log_nothing_is_erased(cursor: Any, reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_database(*_: Any) -> None:
        raise RuntimeError("no such table: log")

    finished(cursor)
    before = row_of(cursor, "r1")
    monkeypatch.setattr(compat, "write_audit_entry", no_database)
    with pytest.raises(SetupError, match="Without it, nothing is erased"):
        erase(reports)
    assert (row_of(cursor, "r1"), published(reports)) == (before, sorted([KEY, OTHER_KEY, STANDALONE]))
