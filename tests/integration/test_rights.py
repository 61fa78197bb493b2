"""The rights of docs/grants on Cassandra and Redis: each is needed, none else is, and an error says which one is missing.

Those on Postgres are in test_job_request_shapes.py, with every verb; those on S3 in tests/stores.
"""

import secrets
from collections.abc import Iterator

import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.models import Table
from progress_exhaust.hooks.user_cache import UserCacheHook
from tests.integration.install import RELATIONS_DB, USERS_DB, Install, cassandra_grants, redis_rules

TABLES = ("report_user_enrolments", "course_batch", "user_activity_agg", "assessment_aggregator", "content_hierarchy")
RULES = ("+select", "+hmget", "+exists", "+smembers", "~user:*", "~*:optionalnodes")


@pytest.fixture
def few(install: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the name and password of a role that may do nothing yet, and let the hooks log in with it."""
    role = f"few_{secrets.token_hex(4)}"
    for name, value in install.environment().items():
        monkeypatch.setenv(name, value.replace(f"{install.login}:{install.password}@", f"{role}:{role}@"))
    install.session.execute(f"CREATE ROLE {role} WITH PASSWORD = '{role}' AND LOGIN = true")
    yield role
    install.session.execute(f"DROP ROLE {role}")
    install.users.acl_deluser(role)


def read_all(install: Install) -> None:
    """Read each table once."""
    with install.learner_tables() as tables:
        assert tables.hierarchy("absent-id") is None
        assert list(tables.batches(["absent-id"])) == list(tables.enrolments_of_batch("absent-id", "absent-id")) == []
        assert list(tables.nested_progress(["absent-id"], ["absent-id"], "absent-id")) == []
        assert list(tables.attempts(["absent-id"], "absent-id", "absent-id")) == []
        tables.estimate_size(Table.AGGREGATES)


def ask_all() -> None:
    """Ask the cache for what it may be asked for."""
    with UserCacheHook(user_db=USERS_DB, relation_db=RELATIONS_DB, timeout_seconds=60) as cache:
        assert cache.users(["absent-id"], ["firstname"]) == {}
        assert cache.optional_nodes("absent-id") == frozenset()


def test_no_other_right_is_granted(install: Install, few: str) -> None:
    assert len(cassandra_grants(install.names, few)) == len(TABLES) + 1  # with the other kind of enrolment table
    assert redis_rules("u", "p") == ["u", "reset", "on", ">p", "resetkeys", "resetchannels", "-@all", *RULES]


@pytest.mark.parametrize("missing", TABLES)
def test_each_right_on_cassandra_is_needed_and_reported(install: Install, few: str, missing: str) -> None:
    for statement in cassandra_grants(install.names, few):
        if f".{missing} " not in statement:
            install.session.execute(statement)
    words = rf"progress_exhaust_cassandra.* no SELECT permission on <table \w+\.{missing}> .*docs/grants/cassandra\.cql"
    with pytest.raises(SetupError, match=words):
        read_all(install)


@pytest.mark.parametrize("missing", RULES)
def test_each_right_on_redis_is_needed_and_reported(install: Install, few: str, missing: str) -> None:
    rules = redis_rules(few, few)
    install.users.execute_command("ACL SETUSER", *(rule for rule in rules if rule != missing))
    what = f"'{missing[1:]}' command" if missing.startswith("+") else "one of the keys"
    with pytest.raises(SetupError, match=rf"progress_exhaust_users.*{what}.*docs/grants/redis\.acl") as caught:
        ask_all()
    assert "absent-id" not in str(caught.value)  # a learner's id


def test_with_all_of_them_everything_is_read(install: Install, few: str) -> None:
    for statement in cassandra_grants(install.names, few):
        install.session.execute(statement)
    install.users.execute_command("ACL SETUSER", *redis_rules(few, few))
    read_all(install)
    ask_all()
