"""The command `check`: its table, its exit status, and the rules about what servers say."""

import json

import pytest

from progress_exhaust import cli
from progress_exhaust.checks import installation
from progress_exhaust.checks.findings import Check, Finding, Level
from progress_exhaust.checks.learner_tables import judge_protocol, judge_rights
from progress_exhaust.checks.requests_database import judge_clock
from progress_exhaust.hooks.cassandra.inspection import ClusterState
from progress_exhaust.security.tls import Tls

GOOD = Finding(Level.OK, "Redis", "progress_exhaust_users", "readable")
ODD = Finding(Level.WARNING, "TLS of Redis", "progress_exhaust_users", "No TLS")
BAD = Finding(Level.ERROR, "pool", "progress_exhaust", "There is no pool")


def run(monkeypatch: pytest.MonkeyPatch, *words: str, found: list[Finding]) -> int:
    monkeypatch.setenv("AIRFLOW_VAR_PROGRESS_EXHAUST", "{}")
    monkeypatch.setattr(installation, "all_checks", lambda *_, **__: [Check("check", "place", lambda: iter(found))])
    return cli.main(["check", *words])


@pytest.mark.parametrize(("found", "status"), [([], 0), ([GOOD], 0), ([GOOD, ODD], 0), ([BAD, GOOD], 1)])
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_only_an_error_has_another_exit_status(
    monkeypatch: pytest.MonkeyPatch, found: list[Finding], status: int, words: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *words, found=found) == status


def test_the_table_has_a_line_for_each_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, found=[GOOD, ODD, BAD])
    assert capsys.readouterr().out.splitlines() == [
        "LEVEL    CHECK         WHERE                   RESULT, AND WHAT TO DO",
        "ok       Redis         progress_exhaust_users  readable",
        "warning  TLS of Redis  progress_exhaust_users  No TLS",
        "error    pool          progress_exhaust        There is no pool",
        "ok=1 warning=1 error=1",
    ]


def test_the_json_has_an_object_for_each_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--json", found=[BAD])
    assert json.loads(capsys.readouterr().out) == [
        {"level": "error", "check": "pool", "where": "progress_exhaust", "text": "There is no pool"}
    ]


def test_wrong_usage_has_its_own_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "everything", found=[])
    assert ended.value.code == 2


@pytest.mark.parametrize(("seconds", "level"), [(0.2, "ok"), (-9, "ok"), (11, "warning"), (-299, "warning"), (301, "error")])
def test_a_clock_that_is_off(seconds: float, level: str) -> None:
    assert judge_clock(seconds).level == level


@pytest.mark.parametrize(("version", "level"), [(3, "ok"), (4, "ok"), (5, "warning")])
def test_only_the_newest_protocol_is_a_warning(version: int, level: str) -> None:
    assert judge_protocol(version).level == level


@pytest.mark.parametrize(("rights", "level"), [(None, "warning"), (["MODIFY"], "warning"), ([], "ok")])
def test_a_login_that_may_write_is_a_warning(rights: list[str] | None, level: str) -> None:
    state = ClusterState(("5.0",), 4, 1, Tls("127.0.0.1", is_encrypted=False), rights)
    assert judge_rights(state).level == level
