"""Test the page of one request: its timeline, causes, files and buttons."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from starlette.testclient import TestClient

from progress_exhaust.docs_links import ENVIRONMENT as DOCS_URL
from progress_exhaust.hooks.requests.releases import Releases
from progress_exhaust.hooks.requests.status import ClaimDetails
from progress_exhaust.page import access, changes
from progress_exhaust.page.actions import first_run_id, may_be_cancelled, next_run_id, rerun_failed
from progress_exhaust.page.app import app
from progress_exhaust.page.batch_tasks import BatchTask, retried_task
from progress_exhaust.page.causes import group_causes
from progress_exhaust.page.request_view import NewRun
from progress_exhaust.page.timeline import make_timeline
from tests.drivers.test_page_app import shown
from tests.drivers.test_page_views import NOW, RUN, batch, request, seen

KEY = {"tag": "tag", "request_id": "R1"}


def claim(run_id: str, outcome: str | None, **changes: Any) -> ClaimDetails:
    released_at = NOW if outcome else None
    return ClaimDetails(
        run_id, NOW - timedelta(minutes=9), released_at, outcome, changes.get("other", "a" * 32), "other" not in changes
    )


# Causes


def test_equal_causes_are_one_line_with_their_batches() -> None:
    broken = [
        batch(f"b{number}", state="failed", error=f"Batch b{number}: no room for .{number}e{number:030}.part")
        for number in range(3)
    ]
    rejected = batch("b9", state="rejected", error="Batch b9 is unknown")
    causes = group_causes(seen(rejected, *broken, batch("b8"), batch("b7", error="was tried again")).batches)
    assert [(cause.error, cause.batch_ids) for cause in causes] == [
        ("Batch …: no room for .….part", ("b0", "b1", "b2")),
        ("Batch b9 is unknown", ("b9",)),
    ]
    page = shown("request.html", view=seen(*broken), causes=causes)
    assert page.count("no room for") == 1 and "3 batches:" in page and 'href="#batch-b2"' in page


# Timeline


def test_timeline_has_each_claim_and_stage_in_order() -> None:
    one, two = (batch(one, state="done", listed_at=NOW - timedelta(minutes=8)) for one in ("b1", "b2"))
    view = seen(one, two, status="SUCCESS", completed_at=NOW)
    ends = {"b1": NOW - timedelta(minutes=6), "b2": NOW - timedelta(minutes=5)}
    tasks = {(RUN, name, "extract"): BatchTask("success", NOW - timedelta(minutes=7), end) for name, end in ends.items()} | {
        (RUN, "b1", "pivot"): BatchTask("running", NOW),
        (RUN, "b2", "pivot"): BatchTask(None),
    }
    events = make_timeline(view, [claim("old", "lost", other="b" * 32), claim(RUN, "SUCCESS")], tasks)
    assert [event.title for event in events] == [
        "Submitted", "Claimed", "The run ended without a result", "Claimed", "Batches listed", "extract", "pivot", "Published",
    ]  # fmt: skip
    assert [(event.run_id, event.has_run) for event in events if event.title == "Claimed"] == [("old", False), (RUN, True)]
    assert events[1].text.startswith("another installation bbbbbbbbbbbb")
    assert (events[4].text, events[5].text, events[6].text) == ("2 batches", "2 batches", "1 running, 1 cleared")
    assert (events[5].until, events[6].until) == (ends["b2"], None)
    page = shown("request.html", view=view, timeline=events)
    assert "<span data-zone>" in page and ", took 2 min" in page and page.count('id="timeline-run"') == 1


def test_timeline_of_a_request_that_no_run_claimed_ends_with_its_row() -> None:
    view = seen(status="FAILED", completed_at=NOW, claim_run_id=None, held=False)
    assert [event.title for event in make_timeline(view, [], {})] == ["Submitted", "Failed"]
    cancelled = make_timeline(seen(status="FAILED"), [claim(RUN, "cancelled")], {})
    assert cancelled[-1].title == "Cancelled by a person"
    waiting = make_timeline(seen(status="FAILED", claim_run_id=""), [claim("", "cancelled")], {})
    assert [event.title for event in waiting] == ["Submitted", "Cancelled by a person"]


# Files


def test_files_have_size_checksum_and_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DOCS_URL, "https://docs.example.org/{page}.html")
    new = batch(
        "b1", state="done", object_key="k/b1.zip", size_bytes=2000, sha256="0a1b", protection_level="PASSWORD_PROTECTED_DATASET"
    )
    old = batch("b2", state="done", object_key="k/b2.zip", size_bytes=2000)
    page = shown("request.html", view=seen(new, old, status="SUCCESS"))
    assert "<code>0a1b</code>" in page and "a zip with a password" in page and page.count("not recorded") == 2
    assert 'href="https://docs.example.org/how-to/open-protected-reports.html"' in page


# Buttons


def test_make_again_starts_one_run_for_each_state_of_a_request() -> None:
    first = first_run_id(request(status="SUCCESS"))
    assert first == first_run_id(request(status="SUCCESS")) and re.fullmatch(r"manual__again_[0-9a-f]{20}", first)
    changes = {"request_id": "R2"}, {"claimed_at": NOW}, {"submitted_at": NOW}, {"claim_run_id": "new"}, {"run_id": "alone"}
    assert len({first, next_run_id(first), *(first_run_id(request(status="SUCCESS", **one)) for one in changes)}) == 7
    view = seen(batch("b1", state="done"), status="SUCCESS")
    for is_active in (False, True):
        changed = replace(view, new_run=NewRun(first, is_active))
        for page in (shown("request.html", view=changed), shown("list.html", views=[changed])):
            assert ("Make again" in page) is not is_active
            assert ("has started, to make it again" in page and f"/runs/{first}" in page) is is_active
    page = shown("request.html", view=replace(view, new_run=NewRun(first, is_active=False)))
    [body] = re.findall(r"dagRuns\" data-body='([^']+)'", page)
    assert json.loads(body)["dag_run_id"] == first and "It is not made twice" in page


@pytest.mark.parametrize(
    ("run_state", "task_state", "retried"),
    [("running", "up_for_retry", True), ("running", "restarting", True), ("queued", None, True), ("running", "running", True),
     ("running", "failed", False), ("failed", "up_for_retry", False), (None, "up_for_retry", False)],
)  # fmt: skip
def test_a_batch_that_airflow_tries_again_has_no_rerun_button(
    run_state: str | None, task_state: str | None, retried: bool
) -> None:
    one, two = batch("b1", state="failed", stage="package", error="x"), batch("b2", state="failed", stage="pivot", error="x")
    view = seen(one, two, run_state=run_state, status="FAILED")
    tasks = {(RUN, "b1", "package"): BatchTask(task_state, retry_at=NOW), (RUN, "b2", "pivot"): BatchTask("failed")}
    task = retried_task(view.batches[0], tasks)
    assert (task is not None) is retried
    found = {"b1": task} if task else {}
    values = {"view": view, "retried": found, "reruns": rerun_failed(view.batches, tasks)}
    page = shown("request.html", causes=group_causes(view.batches), **values)
    assert (" data-running" in page) is retried
    assert page.count("fix the error") == 1
    assert ("fix the error" in shown("request.html", causes=group_causes(view.batches[:1]), **values)) is not retried
    assert ("It is tried again at" in page) is retried and (f"{NOW:%H:%M} UTC" in page) >= retried
    assert ("Rerun from package" in page) is (run_state is not None and not retried)
    assert ("Rerun all failed batches" in page) is (run_state is not None and not retried)


def test_a_killed_task_is_tried_again() -> None:
    [view] = seen(batch("b1")).batches
    tasks = [BatchTask(state) for state in ("up_for_retry", "running", "queued", None, "success")]
    assert [retried_task(view, {(RUN, "b1", "extract"): task}) is task for task in tasks] == [True, False, False, False, False]


def test_rerun_all_clears_each_failed_stage_and_what_follows_it() -> None:
    failed = batch("b1", state="failed", stage="package"), batch("b2", state="failed", stage="pivot")
    view = seen(*failed, batch("b3", state="done"), run_state="failed")
    [rerun] = rerun_failed(view.batches, {})
    assert (rerun.run_id, rerun.batches, rerun.body["only_failed"]) == (RUN, 2, False)
    assert rerun.body["task_ids"] == [
        ["batch.package", 0], ["batch.mark_complete", 0],
        ["batch.pivot", 1], ["batch.package", 1], ["batch.mark_complete", 1], "settle_requests",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "cancel", "release"),
    [
        ({"status": "SUBMITTED", "held": False}, True, False),
        ({}, True, False),
        ({"is_ours": False, "claim_installation": "b" * 32, "claimed_at": NOW}, False, True),
        ({"held": False}, False, False),  # another program may process it
        ({"status": "SUCCESS", "held": False}, False, False),
        ({"status": "SUBMITTED", "run_id": "alone", "request_id": ""}, False, False),
    ],
)
def test_what_can_be_cancelled_and_released(changes: dict[str, Any], cancel: bool, release: bool) -> None:
    view = seen(batch("b1"), **changes)
    for may_edit in (True, False):
        page = shown("request.html", view=view, may_be_cancelled=may_be_cancelled(view), may_edit=may_edit)
        assert ('data-post="/progress-exhaust/cancel"' in page, 'data-post="/progress-exhaust/release"' in page) == (
            cancel and may_edit,
            release and may_edit,
        )
        assert ("needs the right to edit the DAG" in page) is ((cancel or release) and not may_edit)


# The routes that change something


class User:
    def get_name(self) -> str:
        return "engineer"


@pytest.fixture
def engineer(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Return a client whose user may edit the DAG; nothing is changed."""
    monkeypatch.setattr(access, "is_allowed", lambda *_: True)
    monkeypatch.setattr(access.compat, "write_audit_entry", lambda *_: None)
    monkeypatch.setattr(changes, "_releases", lambda: Releases.__new__(Releases))
    monkeypatch.setattr(Releases, "cancel", lambda *_: None)
    monkeypatch.setitem(app.dependency_overrides, get_user, User)
    airflow = FastAPI()
    airflow.mount("/progress-exhaust", app)
    return TestClient(airflow)


def test_a_call_from_another_site_changes_nothing(engineer: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Releases, "cancel", lambda *_: pytest.fail("it was cancelled"))
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = engineer.post("/progress-exhaust/cancel", json=KEY, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (403, "The call comes from another site")
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = engineer.post("/progress-exhaust/cancel", content=json.dumps(KEY), headers={"Content-Type": kind})
        assert answer.status_code == 415
    assert engineer.get("/progress-exhaust/cancel").status_code == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://airflow.example"}, 200),  # the proxy passes no Host
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"X-Forwarded-Host": "airflow.example, inner:8080", "Origin": "https://airflow.example"}, 200),
        ({"X-Forwarded-Host": "airflow.example:443", "Origin": "https://airflow.example"}, 200),
        ({"Host": "airflow.example:80", "Origin": "http://airflow.example"}, 200),
        ({"Origin": "https://base.example"}, 200),
        ({"Origin": "https://base.example:8443"}, 403),
        ({"X-Forwarded-Host": "airflow.example, ", "Origin": "null"}, 403),
        ({"X-Forwarded-Host": "airflow.example", "Origin": "http://["}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_a_call_from_the_page_is_accepted_behind_a_proxy(
    engineer: TestClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://Base.example:443/airflow/")
    assert engineer.post("/progress-exhaust/cancel", json=KEY, headers=headers).status_code == status


def test_a_call_from_the_page_is_accepted_and_needs_the_audit_log(engineer: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for headers in ({}, {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}):
        assert engineer.post("/progress-exhaust/cancel", json=KEY, headers=headers).status_code == 200
    assert engineer.post("/progress-exhaust/cancel", json=KEY | {"tag": "\0"}).status_code == 422

    def broken(*_: Any) -> None:
        raise OSError("a-secret")

    monkeypatch.setattr(access.compat, "write_audit_entry", broken)
    monkeypatch.setattr(Releases, "cancel", lambda *_: pytest.fail("it was cancelled"))
    answer = engineer.post("/progress-exhaust/cancel", json=KEY)
    assert answer.status_code == 503 and "audit log of Airflow cannot be written (OSError)" in answer.json()["detail"]
