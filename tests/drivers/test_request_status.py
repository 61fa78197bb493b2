"""Test the command line and the status reader without Postgres: messages, numbers, and rows that could control a terminal."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from progress_exhaust import cli, cli_output
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.claims import Claims
from progress_exhaust.hooks.requests.status import BatchDetails, RequestDetails, RequestStatusReader, _batch_ids
from progress_exhaust.page.request_view import make_view
from progress_exhaust.settings import Settings

TABLES = {"job_request_table": "job_request", "ledger_schema": "progress_exhaust"}


def test_misspelt_option_of_the_connection_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS", "postgresql://some-user:a-secret@127.0.0.1:9/none?sslmod=require"
    )
    for ask in (RequestStatusReader(**TABLES).tally, Claims(run_id="run", **TABLES).holding_runs):
        with pytest.raises(
            SetupError, match=r'\(connection progress_exhaust_requests\): .*"sslmod".*Fix the extra field'
        ) as caught:
            ask()
        assert "a-secret" not in str(caught.value)


def test_age_is_rounded() -> None:
    now = datetime.now(UTC)
    ages = {timedelta(hours=23, minutes=40): "23 h 40 min", timedelta(seconds=-30): "0 s"}
    assert [cli_output.age(now - age) for age in ages] == list(ages.values())
    assert cli_output.age(None) == ""


def test_batch_without_a_package_is_not_done() -> None:
    entries = [{"batchId": "b0", "filePath": "progress-exhaust/b0.zip"}, {"batchId": "b1", "filePath": "progress-exhaust/b1.csv"}]
    assert _batch_ids(json.dumps([*entries, {"batchId": "b2"}, {"filePath": "b3.zip"}, "b4"])) == ("b0",)
    assert _batch_ids("{") == _batch_ids(None) == ()


@pytest.mark.parametrize(
    ("stage", "state", "counts", "words"),
    [
        ("extract", "waiting", {}, ""),
        ("extract", "running", {"enrolled": 1000}, "0 of 1,000 read"),
        ("extract", "running", {"enrolled": 1000, "learners_done": 400}, "400 of 1,000 read"),
        (
            "extract",
            "running",
            {"enrolled": 1000, "learners_done": 400, "seconds_left": 5960},
            "400 of 1,000 read, about 2 h left",
        ),
        ("extract", "running", {"enrolled": 1000, "learners_done": 400, "seconds_left": 0}, "400 of 1,000 read"),
        ("extract", "failed", {"enrolled": 1000, "learners_done": 400}, "0 of 1,000"),
        ("mark_complete", "done", {"enrolled": 1000, "learners_done": 900, "reported": 990}, "990 of 1,000"),
    ],
)
@pytest.mark.parametrize("asked", [["status", "R1"], ["why", "b1"]])
def test_progress_of_a_batch(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: list[str],
    stage: str,
    state: str,
    counts: dict[str, int],
    words: str,
) -> None:
    now = datetime.now(UTC)
    batch = BatchDetails("b1", "run", "do_1", stage, state, counts, {}, None, None, None, now, now)
    answer(monkeypatch, "R1", 1, batch)
    assert cli.main(asked) == 0
    told = capsys.readouterr().out.partition("LEARNERS")[2].splitlines()[1]
    assert re.fullmatch(rf"  b1 +{state} +{stage} +{words} +0\.0 +run", told)


def test_csv_instead_of_a_workbook_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now, counts = datetime.now(UTC), {"csv_instead_of_xlsx": 1, "cut_cells": 0}
    answer(
        monkeypatch, "R1", 1, BatchDetails("b1", "run", "do_1", "mark_complete", "done", counts, {}, 9, "b1.zip", None, now, now)
    )
    assert cli.main(["why", "b1"]) == 0
    assert "\n    a csv, because it has more rows or columns than Excel can open\n" in capsys.readouterr().out


def answer(monkeypatch: pytest.MonkeyPatch, text: str, times: int, *batches: BatchDetails) -> None:
    """Let the command find this number of requests. Every text field has the given text."""
    row = RequestDetails(text, text, "", text, text, datetime.now(UTC), None, 0, text, (), None, False, text)
    view = make_view(row, batches, {}, {})
    monkeypatch.setattr(cli, "_find_requests", lambda *_, **__: ([view] * min(times, cli.MAX_LISTED), times))
    monkeypatch.setattr(cli, "_settings", Settings)


def test_row_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, "\x1b]0;owned\x07\x1b[2J\n\u202ex", 1)
    for words in (["status"], ["status", "R1"], ["why", "b1"]):
        assert cli.main(words) == 0
        said = capsys.readouterr().out
        assert "owned" in said and all(line.isprintable() for line in said.splitlines())


@pytest.mark.parametrize("words", [["status"], ["status", "R1"], ["why", "b1"]])
def test_incomplete_list_is_marked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    for times, cut in ((cli.MAX_LISTED, False), (cli.MAX_LISTED + 1, True)):
        answer(monkeypatch, "R1", times)
        assert cli.main(words) == 0
        assert ("the newest 50" in capsys.readouterr().out) == cut
