"""Test the command line and the status reader without Postgres: messages, numbers, and rows that could control a terminal."""

import argparse
import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from progress_exhaust import cli, cli_airflow, cli_output, cli_status
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.claims import Claims
from progress_exhaust.hooks.requests.status import BatchDetails, RequestDetails, RequestStatusReader, _batch_ids
from progress_exhaust.page.causes import group_causes
from progress_exhaust.page.request_view import make_view
from progress_exhaust.settings import Settings
from tests.drivers.test_page_app import shown
from tests.drivers.test_page_views import batch, seen

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


ERROR = "Publish the collection again"
AGAIN = "No run tries it again by itself. Do what the error says, then submit the request again."
TRY_NOW = "The next run tries it again. To make it now: fix the error, then clear this stage of the batch"


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"status": "FAILED"}, "rejected", AGAIN),
        ({"status": "FAILED", "failures": 2}, "failed", TRY_NOW),
        ({"status": "FAILED", "failures": 3}, "failed", "Fix the error, then clear this stage of the batch"),
        ({"status": "FAILED", "permanent": True}, None, f"It has no batches: it was ended before a run listed them. {AGAIN}"),
        (
            {"status": "FAILED", "failures": 1},
            None,
            "A run could not list its batches, for the reason in the error. The next",
        ),
        ({"status": "PROCESSING"}, "failed", "Its run may try it again. If the run has ended: fix the error, then clear"),
        ({"status": "FAILED", "failures": 3}, None, f"It has no batches: it was ended before a run listed them. {AGAIN}"),
        ({"status": "FAILED", "claim_run_id": None}, None, "Another program has set it to FAILED before a run has listed"),
        ({"status": "SUBMITTED"}, None, "A run could not list its batches. The next run tries again."),
        ({"status": "SUBMITTED", "claim_run_id": None, "held": False}, None, "No run has listed its batches yet."),
        ({"status": "PROCESSING"}, None, "No run has listed its batches yet."),
    ],
)
def test_page_and_command_say_the_same_about_what_comes_next(
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], state: str | None, words: str
) -> None:
    view = seen(*([batch("b1", state=state, error=ERROR)] if state else []), **changes)
    cli_status.print_request(view)
    assert words in capsys.readouterr().out
    assert words in shown("request.html", view=view, causes=group_causes(view.batches))


def test_one_cause_of_several_batches_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    broken = [batch(name, state="failed", error=f"{name}: Redis does not answer") for name in ("b1", "b2")]
    cli_status.print_request(
        seen(*broken, batch("b3", state="rejected", error=ERROR), batch("b4", state="done"), status="FAILED")
    )
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert lines[::2] == ["  b1, b2: …: Redis does not answer", f"  b3: {ERROR}", "  b4"]
    assert lines[1].startswith(f"    {TRY_NOW}") and lines[3::2] == [f"    {AGAIN}", "    Its file is in the reports container."]


def test_json_has_the_documented_fields(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reference/commands.md").read_text()
    of_request, of_batch = (
        re.findall(r"`(\w+)`", re.findall(rf"^\| a {of} \| (.*) \|$", page, re.MULTILINE)[0]) for of in ("request", "batch")
    )
    answer(monkeypatch, "R1", 2, batch("b1", state="rejected", error=ERROR), batch("b2", state="done", seconds={"pivot": 1.5}))
    for words, batches in ((["status"], ["b1", "b2"]), (["why", "b1"], ["b1"])):
        assert cli.main([*words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["total"], [list(request) for request in found["requests"]]) == (2, [of_request] * 2)
        [one, *_] = found["requests"]
        assert [list(one) for one in one["batches"]] == [of_batch] * len(batches)
        assert ([one["batch_id"] for one in one["batches"]], one["batches"][0]["next_step"]) == (batches, AGAIN)
        assert datetime.fromisoformat(one["submitted_at"]).tzinfo == UTC
    answer(monkeypatch, "R1", 0)
    for words in (["status", "R2"], ["why", "b1"]):
        assert cli.main([*words, "--json"]) == 1
        said = capsys.readouterr()
        assert json.loads(said.out) == {"requests": [], "total": 0}
        assert re.fullmatch(r"progress-exhaust: error: .+\n", said.err)


def parsers() -> dict[str, argparse.ArgumentParser]:
    [commands] = [action for action in cli._parser()._actions if isinstance(action.choices, dict)]
    return dict(commands.choices)


@pytest.mark.parametrize("name", parsers())
def test_each_command_has_json_and_examples_that_are_valid(name: str) -> None:
    parser = parsers()[name]
    assert "--json" in parser.format_help()
    examples = re.findall(
        r"^  progress-exhaust (.*?)(?: < \w+)?$", parser.format_help().partition("\nexamples:\n")[2], re.MULTILINE
    )
    assert examples and all(example.startswith(name) for example in examples)
    for example in examples:
        cli._parser().parse_args(shlex.split(example))


@pytest.mark.parametrize("words", [[], ["what"], ["why"], ["status", "--what"], ["submit", "--channel", "c"]])
def test_wrong_usage_has_the_form_of_all_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith("usage: progress-exhaust") and re.search(r"\nprogress-exhaust: error: .+\n$", said.err)


def answer(monkeypatch: pytest.MonkeyPatch, text: str, times: int, *batches: BatchDetails) -> None:
    """Let the command find this number of requests. Every text field has the given text."""
    row = RequestDetails(text, text, "", text, text, datetime.now(UTC), None, 0, text, (), None, False, text, named=("b1",))
    view = make_view(row, batches, {}, {})
    monkeypatch.setattr(cli_status, "find_requests", lambda *_, **__: ([view] * min(times, cli_status.MAX_LISTED), times))
    monkeypatch.setattr(cli_airflow, "read_settings", Settings)


def test_row_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, "\x1b]0;owned\x07\x1b[2J\n\u202ex", 1)
    for words in (["status"], ["status", "R1"], ["why", "b1"]):
        assert cli.main(words) == 0
        said = capsys.readouterr().out
        assert "owned" in said and all(line.isprintable() for line in said.splitlines())


def test_a_request_without_that_batch_is_not_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, "R1", 1, batch("b2", batch_name="Live session"))
    assert cli.main(["why", "Live"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "progress-exhaust: error: No request names batch Live, and no run has listed it\n")
    for shown_as in ("B1", "B2"):  # the request names one, and a run has listed the other
        assert cli.main(["why", shown_as, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["total"] == 1


@pytest.mark.parametrize("words", [["status"], ["status", "R1"], ["why", "b1"]])
def test_incomplete_list_is_marked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    for times, cut in ((cli_status.MAX_LISTED, False), (cli_status.MAX_LISTED + 1, True)):
        answer(monkeypatch, "R1", times)
        assert cli.main(words) == 0
        assert ("the newest 50" in capsys.readouterr().out) == cut
