"""Test the command line on the real ledger, after real runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dev.world import ORG, REQUESTED_AT, Row, World, request_row
from tests.integration.install import PROJECT, Install

[DOCUMENTED] = re.findall(
    r"^(PYTHONPATH=PLUGINS_FOLDER python .*) status ", (PROJECT / "docs/how-to/runbook.md").read_text(), re.MULTILINE
)


def command(
    install: Install, home: Path, *words: str, answer: str = "", start: str = DOCUMENTED, **connections: str
) -> subprocess.CompletedProcess[str]:
    """Call it as the runbook does, with nothing of ours on the path but plugins/."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PROGRESS_"))}
    environment |= install.environment(connections=connections)
    environment |= {"AIRFLOW_HOME": str(home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    documented = start.replace("PLUGINS_FOLDER", shlex.quote(str(PROJECT / "plugins")))
    return subprocess.run(
        ["bash", "-c", f"{documented} {shlex.join(words)}"],
        cwd=home, env=environment, capture_output=True, text=True, check=False, input=answer,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def operator(queue: Install) -> None:
    """Let the connection's role do what an operator does."""
    queue.grant("operators.sql")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


def test_where_a_finished_request_stands(queue: Install, asked: Row, world: World, home: Path) -> None:
    run = queue.run_dag(retries=2).run_id
    listed = command(queue, home, "status")
    assert listed.returncode == 0, listed.stderr
    head, row = listed.stdout.splitlines()
    assert head.split() == ["REQUEST", "STATUS", "AGE", "BATCHES", "FAILURES", "LAST", "RUN", "CHANNEL"]
    assert [asked["request_id"], "SUCCESS", "1 of 1", "0 of 3", run] == [cells(row)[at].strip() for at in (0, 1, 3, 4, 5)]
    one = command(queue, home, "status", asked["request_id"])
    assert f"{world.batches[0]['batchid']}  done" in one.stdout
    assert "11 of 11" in one.stdout
    for secret in (asked["requested_by"], *(user for user, _ in world.users)):
        assert secret not in listed.stdout + one.stdout


def test_what_another_installation_holds_is_named_and_released(queue: Install, asked: Row, home: Path) -> None:
    queue.sql("UPDATE job_request SET status = 'PROCESSING'")
    queue.sql(
        "INSERT INTO progress_exhaust.claim (tag, request_id, installation, run_id) VALUES (%s, %s, %s, 'run-of-staging')",
        [asked["tag"], asked["request_id"], "b" * 32],
    )
    for words in (["status"], ["status", asked["request_id"]]):
        assert "another installation" in command(queue, home, *words).stdout
    kept = command(queue, home, "release", asked["request_id"], answer="n\n")
    assert (kept.returncode, "It is not released" in kept.stderr) == (1, True)
    assert "run run-of-staging of another installation bbbbbbbbbbbb, since" in kept.stdout
    assert queue.row(asked)["status"] == "PROCESSING"
    released = command(queue, home, "release", "--yes", "--json", asked["request_id"])
    assert (released.returncode, released.stderr) == (0, "")
    [claim] = json.loads(released.stdout)["claims"]
    assert (claim["request_id"], claim["run_id"], claim["released"]) == (asked["request_id"], "run-of-staging", True)
    assert queue.row(asked)["status"] == "SUBMITTED"
    again = command(queue, home, "release", "--yes", asked["request_id"])
    assert (again.returncode, again.stderr.strip()) == (1, f"progress-exhaust: error: No run holds request {asked['request_id']}")
    assert queue.run_dag().state == "success"
    assert queue.row(asked)["status"] == "SUCCESS"


def test_why_a_batch_has_no_report(queue: Install, asked: Row, world: World, home: Path) -> None:
    queue.run_dag(connections={"USERS": "redis://127.0.0.1:1"})
    batch = world.batches[0]["batchid"]
    told = command(queue, home, "why", batch)
    assert told.returncode == 0, told.stderr
    for words in (
        asked["request_id"],
        "FAILED",
        f"{batch}  failed  fetch_hierarchy",
        "127.0.0.1:1 (connection",
        "clear this stage",
        "The next run tries it again",
    ):
        assert words in told.stdout
    unknown = command(queue, home, "why", "no-such-batch")
    assert (unknown.returncode, unknown.stderr.count("no-such-batch")) == (1, 1)


def test_what_comes_next_for_what_a_run_has_rejected(queue: Install, world: World, home: Path) -> None:
    at, batch = REQUESTED_AT, "0199unknown"
    invalid, unknown = (
        request_row(data, label=f"label{number}", channel=ORG, by=f"requester {number}", at=at)
        for number, data in enumerate(({"batchId": 7}, {"batchId": batch}))
    )
    queue.submit([invalid, unknown])
    assert queue.run_dag().state == "success"
    assert {row["status"] for row in queue.rows().values()} == {"FAILED"}
    again = "No run tries it again by itself. Do what the error says, then submit the request again."
    said = command(queue, home, "status", invalid["request_id"]).stdout
    assert "  batchId must be a text" in said and "listed its batches yet" not in said
    assert f"  It has no batches: it was ended before a run listed them. {again}\n" in said
    said = command(queue, home, "why", batch).stdout
    assert f"  {batch}: no such batch\n    {again}\n" in said


def test_a_request_to_try_things_with_is_made_by_the_next_run(queue: Install, asked: Row, world: World, home: Path) -> None:
    queue.sql("DELETE FROM job_request")
    batch, course = world.batches[0]["batchid"], world.batches[0]["courseid"]
    ids = []
    for what, json_or_text in ((["--batches", batch], []), (["--course", course], ["--json"])):
        entered = command(queue, home, "submit", *what, "--channel", asked["requested_channel"], *json_or_text)
        assert entered.returncode == 0, entered.stderr
        ids.append(json.loads(entered.stdout)["request_id"] if json_or_text else entered.stdout.split()[0])
    waiting = command(queue, home, "why", batch)
    assert "SUBMITTED" in waiting.stdout and "No run has listed its batches yet." in waiting.stdout
    assert queue.run_dag(retries=2).state == "success"
    rows = queue.rows()
    assert [rows[one]["status"] for one in ids] == ["SUCCESS", "SUCCESS"]
    assert len(queue.csv(rows[ids[0]]["download_urls"][0]).splitlines()) == 12


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["status", "NONE"], 1, "There is no request NONE"),
        (["submit", "--batches", "a/b", "--channel", "c"], 2, "A batch id is not valid"),
        (["submit", "--batches", *"abcdefghijklmnopqrstu", "--channel", "c"], 2, "may name 20 batches"),
        (["submit", "--course", "../x", "--channel", "c"], 2, "The course id is not valid"),
        (["submit", "--channel", "c"], 2, "--batches --course is required"),
        (["what"], 2, "invalid choice"),
    ],
)
def test_wrong_input_is_refused_with_a_message(
    queue: Install, asked: Row, home: Path, words: list[str], status: int, said: str
) -> None:
    if words[0] == "status":
        queue.run_dag({"dry_run": True})
    before = queue.rows()
    refused = command(queue, home, *words)
    assert (refused.returncode, refused.stdout) == (status, "")
    assert said in refused.stderr and "Traceback" not in refused.stderr
    assert queue.rows() == before


@pytest.mark.parametrize(("uri", "said"), [("postgresql://127.0.0.1:1/none", "127.0.0.1:1"), ("", "progress_exhaust_requests")])
def test_without_its_database_it_says_which_one_is_missing(queue: Install, asked: Row, home: Path, uri: str, said: str) -> None:
    refused = command(queue, home, "status", REQUESTS=uri)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert said in refused.stderr and "Traceback" not in refused.stderr


def test_a_wrong_setting_is_reported(queue: Install, home: Path) -> None:
    queue.settings = {"batches_per_reqest": 1}
    refused = command(queue, home, "status")
    queue.settings = {}
    assert refused.returncode == 3
    assert "did you mean batches_per_request" in refused.stderr
