"""How checks run: none hides another, each has a time limit, and no text has a secret. And the rules that need no server."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from progress_exhaust import compat
from progress_exhaust.checks import airflow_setup
from progress_exhaust.checks.findings import (
    Check,
    Finding,
    Level,
    Result,
    describe_tls,
    format_levels,
    guarded,
    passed,
    run_checks,
    warned,
)
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.security.tls import Tls
from progress_exhaust.settings import Settings, valid_settings

GIB = 2**30


def check_that(name: str, *found: Result | Exception) -> Check:
    def results() -> Iterator[Result]:
        for one in found:
            if isinstance(one, Exception):
                raise one
            yield one

    return Check(name, "place", lambda: guarded(name, "place", results))


def raise_error(error: Exception) -> Iterator[Finding]:
    yield Finding(Level.OK, "first", "place", "fine")
    raise error


def test_a_check_that_fails_hides_no_other() -> None:
    checks = [
        check_that("one", passed("fine"), SetupError("Fix it:\nSELECT 1")),
        check_that("two", SourceError("It does not answer.")),
        Check("three", "place", lambda: raise_error(ValueError("the password is hunter2"))),
        check_that("four", warned("Look at it")),
    ]
    found = list(run_checks(checks))
    assert [(one.level, one.check, one.text) for one in found] == [
        ("ok", "one", "fine"),
        ("error", "one", "Fix it:"),
        ("error", "two", "It does not answer. Bring it up, or fix the address and the login of its connection"),
        ("ok", "first", "fine"),
        ("error", "three", "The check itself failed: ValueError. Report it to the authors of this package"),
        ("warning", "four", "Look at it"),
    ]
    assert format_levels(found) == "ok=2 warning=1 error=3"


def test_what_a_check_found_before_its_error_stays() -> None:
    [check] = [Check("part", "place", lambda: raise_error(SetupError("Fix it")))]
    assert [(one.level, one.check) for one in run_checks([check])] == [("ok", "first"), ("error", "part")]


def test_a_check_that_hangs_is_left_after_its_time_limit() -> None:
    end = Event()

    def hang() -> Iterator[Finding]:
        yield Finding(Level.OK, "first", "place", "fine")
        end.wait(60)

    found = list(run_checks([Check("slow", "place", hang), check_that("next", passed("fine"))], limit_seconds=0.2))
    end.set()
    assert [(one.level, one.check) for one in found] == [("ok", "first"), ("error", "slow"), ("ok", "next")]
    assert found[1].text.startswith("No answer in 0.2 s. ")


@pytest.mark.parametrize(
    ("tls", "level", "text"),
    [
        (Tls("db.example.org", is_encrypted=True, is_verified=True), "ok", "the certificate is checked"),
        (Tls("db.example.org", is_encrypted=True), "warning", "is not checked"),
        (Tls("db.example.org", is_encrypted=False), "warning", "No TLS"),
        (Tls("10.0.0.1", is_encrypted=False, is_verified=True), "warning", "No TLS"),
        (Tls("127.0.0.1", is_encrypted=False), "ok", "on this machine"),
        (Tls("::1", is_encrypted=False), "ok", "on this machine"),
        (Tls("localhost", is_encrypted=False), "ok", "on this machine"),
        (Tls("/var/run/postgresql", is_encrypted=False), "ok", "on this machine"),
        (Tls("", is_encrypted=False), "ok", "on this machine"),
    ],
)
def test_a_connection_that_others_can_read_is_a_warning(tls: Tls, level: str, text: str) -> None:
    result = describe_tls(tls)
    assert (result.level, text in result.text) == (level, True)


@pytest.mark.parametrize(("free", "level"), [(3 * GIB, "ok"), (GIB, "warning"), (GIB // 100, "error")])
def test_a_disk_with_little_space_is_a_warning_or_an_error(free: int, level: str) -> None:
    assert airflow_setup.free_space("TMPDIR", "/scratch", free).level == level


@pytest.mark.parametrize(("slots", "level"), [(4, "ok"), (0, "error"), (None, "error")])
def test_the_pool_has_to_exist_and_to_have_slots(monkeypatch: pytest.MonkeyPatch, slots: int | None, level: str) -> None:
    monkeypatch.setattr(compat, "find_pool_slots", lambda _name: slots)
    [result] = airflow_setup.check_pool()
    assert result.level == level


def test_where_pools_cannot_be_seen_that_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_database(_name: str) -> Any:
        raise OSError

    monkeypatch.setattr(compat, "find_pool_slots", no_database)
    [result] = airflow_setup.check_pool()
    assert (result.level, "Admin, Pools" in result.text) == ("warning", True)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (None, {}),
        ("", {}),
        ("no JSON", {}),
        ("[1]", {}),
        ('{"user_cache_db": 3, "optional_nodes_db": "x", "unknown": 1}', {"user_cache_db": 3}),
        # Both are valid, and not together.
        ('{"user_cache_db": 3, "reports_container_url": "s3://a", "staging_url": "s3://a/b"}', {}),
        ('{"relation_cache_db": 7}', {"optional_nodes_db": 7}),
    ],
)
def test_the_checks_use_the_settings_that_are_valid(text: str | None, values: dict[str, Any]) -> None:
    assert valid_settings(text) == Settings(**values)


@pytest.mark.parametrize(("text", "level"), [(None, "warning"), ("{}", "ok")])
def test_a_variable_that_is_missing_is_a_warning(text: str | None, level: str) -> None:
    [result] = airflow_setup.check_variable(text)
    assert result.level == level
