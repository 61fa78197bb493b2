"""Which level a report gets, by which key; and that a level that cannot be kept makes no report."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from progress_exhaust.errors import RequestError
from progress_exhaust.security.levels import DefaultLevel, Keys, Level, Protection, protection, stated_level

PUBLIC_KEY = rsa.generate_private_key(65537, 2048).public_key()
JOB = "progress-exhaust"


def not_asked() -> Any:
    raise AssertionError("this level needs no such key")


def keys(text: Any = not_asked, public_key: Any = not_asked) -> Keys:
    def giver(value: Any) -> Callable[[], Any]:
        return value if callable(value) else lambda: value

    return Keys(giver(text), giver(public_key))


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        (None, None),
        ({}, None),
        ({"level": ""}, None),
        ({"level": None, "job": None}, None),
        ({"comments": "none yet"}, None),
        ({"level": "PLAIN_DATASET"}, Level.PLAIN),
        ({"level": "PLAIN_DATASET", "job": {}}, Level.PLAIN),
        ({"level": "PLAIN_DATASET", "job": {"userinfo-exhaust": {"level": "PUBLIC_KEY_ENCRYPTED_DATASET"}}}, Level.PLAIN),
        ({"level": "PLAIN_DATASET", "job": {JOB: {"level": "PASSWORD_PROTECTED_DATASET"}}}, Level.PASSWORD),
        ({"level": "PUBLIC_KEY_ENCRYPTED_DATASET", "job": {JOB: {"level": "PLAIN_DATASET"}}}, Level.PLAIN),
        ({"level": "TEXT_KEY_ENCRYPTED_DATASET", "job": {JOB: {"level": ""}}}, Level.TEXT_KEY),
        ({"level": "TEXT_KEY_ENCRYPTED_DATASET", "job": {JOB: {}}}, Level.TEXT_KEY),
        ({"job": {JOB: {"level": "PUBLIC_KEY_ENCRYPTED_DATASET"}}}, Level.PUBLIC_KEY),
    ],
)
def test_the_jobs_level_comes_before_the_tenants(policy: Any, level: Level | None) -> None:
    assert stated_level(policy) is level


@pytest.mark.parametrize(
    "named", ["L4", "plain_dataset", " PLAIN_DATASET", 4, ["PLAIN_DATASET"], {"a": 1}, True, {}, [], 0, False]
)
@pytest.mark.parametrize("of_job", [True, False])
def test_an_unknown_level_is_refused_by_its_name(named: Any, of_job: bool) -> None:
    policy = {"level": "PLAIN_DATASET", "job": {JOB: {"level": named}}} if of_job else {"level": named}
    with pytest.raises(RequestError) as caught:
        protection(stated_level(policy), DefaultLevel.STRICTEST, keys())
    assert repr(str(named)) in str(caught.value) and "Known levels: PLAIN_DATASET, " in str(caught.value)


@pytest.mark.parametrize(
    "policy", ["PLAIN_DATASET", ["PLAIN_DATASET"], 4, {"job": "x"}, {"job": {JOB: "PLAIN_DATASET"}}, [], "", {"job": []}]
)
def test_an_invalid_policy_is_refused_with_a_message(policy: Any) -> None:
    with pytest.raises(RequestError, match="policy cannot be read"):
        protection(stated_level(policy), DefaultLevel.STRICTEST, keys())


@pytest.mark.parametrize("default", [DefaultLevel.PLAIN, DefaultLevel.STRICTEST])
def test_a_stated_level_is_kept_whatever_the_default(default: DefaultLevel) -> None:
    by_text = keys(text="S3cret")
    assert protection(Level.PASSWORD, default, by_text) == Protection(Level.PASSWORD, "S3cret")
    assert protection(Level.TEXT_KEY, default, by_text) == Protection(Level.TEXT_KEY, "S3cret")
    by_public_key = keys(public_key=PUBLIC_KEY)
    assert protection(Level.PUBLIC_KEY, default, by_public_key).public_key is PUBLIC_KEY
    assert protection(Level.PLAIN, default, keys()) == Protection(Level.PLAIN)


@pytest.mark.parametrize(
    ("level", "missing"),
    [
        ("PASSWORD_PROTECTED_DATASET", "the request has no encryption key"),
        ("TEXT_KEY_ENCRYPTED_DATASET", "the request has no encryption key"),
        ("PUBLIC_KEY_ENCRYPTED_DATASET", "the org has no public key"),
    ],
)
@pytest.mark.parametrize("stated", [True, False], ids=["stated", "default"])
def test_a_level_without_its_key_is_refused_with_a_message(level: str, missing: str, stated: bool) -> None:
    policy, default = (Level(level), DefaultLevel.PLAIN) if stated else (None, DefaultLevel(level))
    with pytest.raises(RequestError, match=missing) as caught:
        protection(policy, default, keys(text=None, public_key=None))
    assert level in str(caught.value)


def test_the_strictest_is_by_the_orgs_key_then_by_the_requesters_then_plain() -> None:
    assert protection(None, DefaultLevel.STRICTEST, keys(public_key=PUBLIC_KEY)).level is Level.PUBLIC_KEY
    assert protection(None, DefaultLevel.STRICTEST, keys("S3cret", None)) == Protection(Level.TEXT_KEY, "S3cret")
    assert protection(None, DefaultLevel.STRICTEST, keys(None, None)) == Protection(Level.PLAIN)


@pytest.mark.parametrize("policy", [None, {"level": "PUBLIC_KEY_ENCRYPTED_DATASET"}])
def test_a_public_key_that_is_of_no_use_never_makes_a_weaker_file(policy: Any) -> None:
    def bad() -> Any:
        raise RequestError("too short")

    with pytest.raises(RequestError, match="too short"):
        protection(stated_level(policy), DefaultLevel.STRICTEST, keys("S3cret", bad))


def test_a_requesters_key_that_is_of_no_use_never_makes_a_weaker_file() -> None:
    def bad() -> Any:
        raise RequestError("cannot be read")

    with pytest.raises(RequestError, match="cannot be read"):
        protection(None, DefaultLevel.STRICTEST, keys(bad, None))


def test_a_password_is_no_longer_than_7_zip_takes() -> None:
    policy = {"level": "PASSWORD_PROTECTED_DATASET"}
    assert protection(stated_level(policy), DefaultLevel.STRICTEST, keys("x" * 99)).text == "x" * 99
    with pytest.raises(RequestError, match="more than 99 bytes"):
        protection(stated_level(policy), DefaultLevel.STRICTEST, keys("अ" * 34))
    assert protection(Level.TEXT_KEY, DefaultLevel.STRICTEST, keys("x" * 100)).level is Level.TEXT_KEY


def test_the_requesters_key_is_not_shown() -> None:
    assert "S3cret" not in repr(Protection(Level.PASSWORD, "S3cret"))
