"""The check of an installation on real servers: all is well, and each kind of fault has a line of its own."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dev.world import World
from progress_exhaust.checks.findings import Finding, Level, run_checks
from progress_exhaust.checks.installation import all_checks
from tests.integration.install import PROJECT, Install, cassandra_grants, redis_rules
from tests.integration.test_cli import command
from tests.openssl import platform_encrypted

SALT = "the/installs?salt"
SALT_CONNECTION = f"generic://:{quote(SALT, safe='')}@"
PAGE = (PROJECT / "docs/how-to/check-the-installation.md").read_text()
[DOCUMENTED] = re.findall("^(PYTHONPATH=PLUGINS_FOLDER python .* check) ", PAGE, re.MULTILINE)
POSTGRES, USERS, CASSANDRA = "progress_exhaust_requests", "progress_exhaust_users", "progress_exhaust_cassandra"


@dataclass
class Checked:
    """An install, and what the checks find of it."""

    install: Install
    monkeypatch: pytest.MonkeyPatch

    def find(self, *names: str, settings: dict[str, Any] | None = None, **connections: str) -> list[Finding]:
        """Return what the checks with these names find; all, if none is named. A connection given as nothing is not there."""
        changed = {"SALT": SALT_CONNECTION} | connections
        environment = self.install.environment(settings, changed)
        for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_PROGRESS_EXHAUST_")]:
            self.monkeypatch.delenv(name)
        for name, value in environment.items():
            self.monkeypatch.setenv(name, value)
        checks = all_checks(environment["AIRFLOW_VAR_PROGRESS_EXHAUST"], sees_pools=False)
        found = list(run_checks([check for check in checks if not names or check.name in names]))
        assert self.install.password not in str(found) and SALT not in str(found)
        return found

    def wrong_password(self, name: str) -> str:
        return self.install.connections()[name].replace(self.install.password, "not-the-password")


@pytest.fixture
def checked(queue: Install, monkeypatch: pytest.MonkeyPatch) -> Checked:
    return Checked(queue, monkeypatch)


def bad(found: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is not Level.OK]


def test_all_is_well(checked: Checked) -> None:
    found = checked.find()
    assert bad(found) == []
    assert {finding.check.partition(" test_")[0].split(".")[0] for finding in found} == {
        "settings", "Postgres", "TLS of Postgres", "clock", "locks of Postgres", "table of requests", "ledger",
        "rights on Postgres",
        "Cassandra", "TLS of Cassandra", "protocol of Cassandra", "rights on Cassandra", "table",
        "Redis", "TLS of Redis", "rights on Redis", "content search", "content trees", "TLS of the content API",
        "org preferences", "org search", "TLS of the org API", "salt",
        "reports container", "public container", "TLS of the store", "staging", "public staging", "disk",
    }  # fmt: skip
    assert len([finding for finding in found if finding.check.startswith("table test_")]) == 5


def test_it_changes_nothing(checked: Checked) -> None:
    checked.install.sql("DROP SCHEMA progress_exhaust CASCADE")
    name = checked.install.postgres.rpartition("/")[2]
    checked.install.sql(f"GRANT CREATE ON DATABASE {name} TO {checked.install.login}")
    [finding] = bad(checked.find("Postgres", "store"))
    checked.install.sql(f"REVOKE CREATE ON DATABASE {name} FROM {checked.install.login}")
    assert (finding.level, finding.check) == (Level.WARNING, "ledger")
    assert "The first task creates or upgrades it" in finding.text
    assert checked.install.sql("SELECT nspname FROM pg_namespace WHERE nspname = 'progress_exhaust'") == []
    assert [path for folder in (checked.install.reports, checked.install.staging) for path in folder.rglob("*")] == []


def test_one_failing_check_hides_no_other(checked: Checked) -> None:
    nowhere = dict.fromkeys(("CONTENT", "ORG"), "http://127.0.0.1:1")
    nowhere |= {"REQUESTS": "postgresql://127.0.0.1:1/x", "CASSANDRA": "cassandra://127.0.0.1:1", "USERS": "redis://127.0.0.1:1"}
    found = checked.find(settings={"batches_per_reqest": 1}, **nowhere)
    assert [finding.check for finding in found if finding.level is Level.ERROR] == [
        "settings", "Postgres", "Cassandra", "Redis", "content search", "org preferences", "org search",
    ]  # fmt: skip
    assert [finding.check for finding in found if finding.level is Level.WARNING] == ["content trees"]
    assert "did you mean batches_per_request" in found[0].text
    assert all("127.0.0.1:1 " in finding.text for finding in found[1:] if finding.level is Level.ERROR)
    # The settings without a mistake are used.
    assert [finding.text.split()[0] for finding in found if "reports_container_url=" in finding.text] == [
        f"reports_container_url={checked.install.reports}"
    ]


# Postgres


def test_a_wrong_password_of_each_server_is_reported(checked: Checked) -> None:
    wrong = {name: checked.wrong_password(name) for name in ("REQUESTS", "CASSANDRA", "USERS")}
    found = checked.find("Postgres", "Cassandra", "Redis", **wrong)
    assert [(finding.level, finding.where) for finding in found] == [
        (Level.ERROR, POSTGRES),
        (Level.ERROR, CASSANDRA),
        (Level.ERROR, USERS),
    ]
    for finding, words in zip(found, ("password authentication failed", "incorrect", "invalid username-password"), strict=True):
        assert words in finding.text
        assert "not-the-password" not in finding.text


@pytest.mark.parametrize(
    ("statement", "level", "check", "words"),
    [
        ("REVOKE UPDATE (status) ON job_request FROM {role}", "error", "rights on Postgres", "permission denied.*postgres.sql"),
        ("REVOKE DELETE ON progress_exhaust.batch_run FROM {role}", "error", "rights on Postgres", "permission denied.*DELETE"),
        ("GRANT DELETE ON job_request TO {role}", "warning", "rights on Postgres", "may DELETE the whole of job_request"),
        ("ALTER TABLE job_request RENAME TO requests_of_all", "error", "table of requests", "has no table"),
        ("ALTER TABLE job_request DROP processed_batches", "error", "table of requests", r"lacks processed_batches \(jsonb\)"),
        ("ALTER TABLE job_request DROP batch_number", "warning", "table of requests", "lacks batch_number: it counts as null"),
        (
            "DROP SCHEMA progress_exhaust CASCADE",
            "error",
            "ledger",
            r"docs/grants/ledger.sql, and then docs/grants/postgres.sql:$",
        ),
        ("ALTER TABLE progress_exhaust.claim DROP batch_ids", "error", "ledger", "may not create or upgrade"),
    ],
)
def test_each_fault_of_the_database_has_a_line(checked: Checked, statement: str, level: str, check: str, words: str) -> None:
    checked.install.sql(statement.format(role=checked.install.login))
    found = bad(checked.find("Postgres"))
    [finding] = [finding for finding in found if finding.check == check]
    assert finding.level == level
    assert re.search(words, finding.text)


def test_a_setting_that_no_request_can_match_is_reported(checked: Checked) -> None:
    checked.install.sql("ALTER TABLE job_request DROP batch_number")
    [finding] = bad(checked.find("Postgres", settings={"batch_number": 1}))
    assert (finding.level, finding.check) == (Level.ERROR, "table of requests")
    assert "Remove batch_number" in finding.text


@pytest.mark.parametrize(("seconds", "level"), [(60, Level.WARNING), (-3600, Level.ERROR)])
def test_a_clock_that_is_off_is_reported(checked: Checked, seconds: int, level: Level) -> None:
    role = checked.install.login
    checked.install.sql(
        "CREATE SCHEMA wrong; CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        f"$$ SELECT pg_catalog.clock_timestamp() + interval '{seconds} seconds' $$; GRANT USAGE ON SCHEMA wrong TO {role};"
        f"ALTER ROLE {role} SET search_path = wrong, pg_catalog, public"
    )
    try:
        [finding] = [finding for finding in bad(checked.find("Postgres")) if finding.check == "clock"]
    finally:
        checked.install.sql(f"ALTER ROLE {role} RESET search_path; DROP SCHEMA wrong CASCADE")
    assert finding.level is level
    assert f"{abs(seconds):,}.0 s {'ahead of' if seconds > 0 else 'behind'} this machine" in finding.text


def test_another_isolation_level_is_reported(checked: Checked) -> None:
    role = checked.install.login
    checked.install.sql(f"ALTER ROLE {role} SET default_transaction_isolation = 'serializable'")
    try:
        [finding] = bad(checked.find("Postgres"))
    finally:
        checked.install.sql(f"ALTER ROLE {role} RESET default_transaction_isolation")
    assert (finding.level, finding.check) == (Level.ERROR, "locks of Postgres")
    assert "Transactions are serializable, and claims need read committed" in finding.text


# Cassandra


@pytest.fixture
def cql(install: Install) -> Callable[[str], None]:
    """Give a function that runs a statement with the names of the install."""

    def run(statement: str) -> None:
        install.session.execute(statement.format(role=install.login, courses=install.names.courses))

    return run


@pytest.mark.parametrize(
    ("statement", "undo", "table", "level", "words"),
    [
        (
            "ALTER TABLE {courses}.report_user_enrolments RENAME userid TO learner",
            "ALTER TABLE {courses}.report_user_enrolments RENAME learner TO userid",
            "report_user_enrolments", "error", r"has the key \(batchid, courseid, learner\), which the report cannot read",
        ),
        (
            "ALTER TABLE {courses}.assessment_aggregator DROP total_score",
            "ALTER TABLE {courses}.assessment_aggregator ADD total_score double",
            "assessment_aggregator", "error", "lacks total_score",
        ),
        (
            "ALTER TABLE {courses}.report_user_enrolments DROP certstatus",
            "ALTER TABLE {courses}.report_user_enrolments ADD certstatus int",
            "report_user_enrolments", "warning", "lacks certstatus: counts as null",
        ),
    ],
    ids=["key", "column", "optional column"],
)  # fmt: skip
def test_each_fault_of_a_learner_table_has_a_line(
    checked: Checked, cql: Callable[[str], None], statement: str, undo: str, table: str, level: str, words: str
) -> None:
    cql(statement)
    try:
        found = checked.find("Cassandra")
    finally:
        cql(undo)
    [finding] = bad(found)
    assert (finding.level, finding.check.rpartition(".")[2]) == (level, table)
    assert re.search(words, finding.text)
    assert len([finding for finding in found if finding.check.startswith("table ")]) == 5


def test_a_missing_right_on_cassandra_is_reported(checked: Checked) -> None:
    install, role = checked.install, f"few_{checked.install.login}"  # Cassandra remembers the rights of a role for some seconds
    install.session.execute(f"CREATE ROLE {role} WITH PASSWORD = 'few' AND LOGIN = true")
    try:
        for statement in cassandra_grants(install.names, role):
            if ".course_batch " not in statement:
                install.session.execute(statement)
        uri = f"cassandra://{role}:few@{install.connections()['CASSANDRA'].rpartition('@')[2]}"
        [finding] = bad(checked.find("Cassandra", CASSANDRA=uri))
    finally:
        install.session.execute(f"DROP ROLE {role}")
    assert (finding.level, finding.check) == (Level.ERROR, f"table {install.names.courses}.course_batch")
    assert re.search("no SELECT permission.*docs/grants/cassandra.cql", finding.text)


def test_missing_tables_and_another_order_of_keys_are_reported(checked: Checked, cql: Callable[[str], None]) -> None:
    cql(
        "CREATE TABLE {courses}.by_course (courseid text, batchid text, userid text, active boolean, enrolled_date timestamp, "
        "completedon timestamp, contentstatus map<text, int>, issued_certificates list<frozen<map<text, text>>>, "
        "PRIMARY KEY (courseid, batchid, userid))"
    )
    settings = {"enrolments_table": f"{checked.install.names.courses}.by_course", "hierarchy_table": "absent.content_hierarchy"}
    found = bad(checked.find("Cassandra", settings=settings))
    assert [(finding.level, finding.check) for finding in found] == [
        (Level.ERROR, f"table {settings['enrolments_table']}"),
        (Level.ERROR, "table absent.content_hierarchy"),
    ]
    assert "has the key (courseid, batchid, userid), which the report cannot read" in found[0].text
    assert "has no table absent.content_hierarchy. Set hierarchy_table" in found[1].text


def test_a_table_keyed_by_user_is_read(checked: Checked) -> None:
    found = checked.find("Cassandra", settings={"enrolments_table": checked.install.names.enrolments_by_user})
    assert bad(found) == []
    assert [finding.text for finding in found if finding.check.endswith(".user_enrolments")] == ["readable, keyed by user"]


def test_a_login_with_more_rights_and_the_newer_protocol_are_reported(checked: Checked, cql: Callable[[str], None]) -> None:
    uri = f"{checked.install.connections()['CASSANDRA']}?__extra__={quote(json.dumps({'protocol_version': 5}))}"
    cql("GRANT MODIFY ON {courses}.course_batch TO {role}")
    try:
        found = bad(checked.find("Cassandra", CASSANDRA=uri))
    finally:
        cql("REVOKE MODIFY ON {courses}.course_batch FROM {role}")
    assert [(finding.level, finding.check) for finding in found] == [
        (Level.WARNING, "protocol of Cassandra"),
        (Level.WARNING, "rights on Cassandra"),
    ]
    assert "Set protocol_version to 4" in found[0].text
    assert "no run needs: MODIFY. Use" in found[1].text


# Redis, the APIs, the salt


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (["-smembers"], "error", "'smembers' command.*docs/grants/redis.acl"),
        (["resetkeys", "~user:*"], "error", "one of the keys.*docs/grants/redis.acl"),
        (["+acl"], "warning", "may do what no run needs"),
    ],
)
def test_each_fault_of_the_rights_on_redis_has_a_line(checked: Checked, change: list[str], level: str, words: str) -> None:
    install = checked.install
    install.users.execute_command("ACL SETUSER", install.login, *change)
    try:
        [finding] = bad(checked.find("Redis"))
    finally:
        install.users.execute_command("ACL SETUSER", *redis_rules(install.login, install.password))
    assert (finding.level, finding.where) == (level, USERS)
    assert re.search(words, finding.text)


def test_wrong_paths_of_the_apis_are_reported(checked: Checked) -> None:
    paths = {"content_search_path": "/v9/search", "org_search_path": "/v9/orgs"}
    found = bad(checked.find("content API", "org API", settings=paths))
    assert [(finding.level, finding.check) for finding in found] == [
        (Level.ERROR, "content search"),
        (Level.ERROR, "org search"),
    ]


def test_the_org_api_is_needed_unless_the_settings_say_that_it_is_not(checked: Checked) -> None:
    [finding] = bad(checked.find("org API", ORG=""))
    assert (finding.level, "set org_policy_source to none" in finding.text) == (Level.ERROR, True)
    assert bad(checked.find("org API", settings={"org_policy_source": "none"}, ORG="")) == []


def test_the_salt_has_to_decrypt_the_keys_of_the_newest_requests(checked: Checked, world: World) -> None:
    [finding] = bad(checked.find("salt", SALT=""))
    assert (finding.level, "There is no salt" in finding.text) == (Level.WARNING, True)
    checked.install.submit([world.requests[0] | {"encryption_key": platform_encrypted("a key", SALT)}])
    [finding] = checked.find("salt")
    assert (finding.level, finding.text) == (Level.OK, "it decrypts keys of the newest requests: keys=1")
    [finding] = checked.find("salt", SALT="generic://:another@")
    assert (finding.level, "decrypts none of the keys" in finding.text) == (Level.ERROR, True)
    [finding] = checked.find("salt", SALT="")
    assert (finding.level, "no salt to decrypt them. Add a connection" in finding.text) == (Level.ERROR, True)


# Folders


def test_folders_that_cannot_be_written_are_reported(checked: Checked, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    [finding] = bad(checked.find("store", settings={"reports_container_url": (tmp_path / "file/reports").as_uri()}))
    assert (finding.level, finding.check) == (Level.ERROR, "store")
    assert "Not a directory" in finding.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_a_full_store_is_reported(checked: Checked, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        (disk / "filled").write_bytes(b"x" * 2**16)
        folders = {"reports_container_url": (disk / "reports").as_uri(), "staging_url": (disk / "staging").as_uri()}
        found = bad(checked.find("store", "disk", settings=folders))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert [(finding.level, finding.check) for finding in found] == [
        (Level.ERROR, "reports container"),
        (Level.ERROR, "staging"),
        (Level.ERROR, "disk"),
        (Level.ERROR, "disk"),
    ]
    assert all("No space left" in finding.text for finding in found[:2])
    assert all("free_gb=0.0: reports fail" in finding.text for finding in found[2:])


def test_a_temporary_folder_that_does_not_exist_is_reported(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    [finding] = checked.find("disk")
    assert (finding.level, "set TMPDIR" in finding.text) == (Level.ERROR, True)


# Where it runs


def test_the_command_prints_json_and_has_an_exit_status(queue: Install, tmp_path: Path) -> None:
    failing = command(queue, tmp_path, "--json", start=DOCUMENTED, SALT=SALT_CONNECTION, USERS="redis://127.0.0.1:1")
    assert failing.returncode == 1, failing.stderr
    findings = json.loads(failing.stdout)
    assert {finding["level"] for finding in findings} == {"ok", "warning", "error"}
    redis, pool = [[one for one in findings if one["check"] == name] for name in ("Redis", "pool")]
    assert [one.pop("text").partition(" (")[0] for one in redis + pool] == [
        "Redis at 127.0.0.1:1",
        "Airflow's database cannot be read here",
    ]
    assert redis + pool == [
        {"level": "error", "check": "Redis", "where": "progress_exhaust_users"},
        {"level": "warning", "check": "pool", "where": "progress_exhaust"},
    ]
    assert queue.password not in failing.stdout + failing.stderr


def test_it_runs_on_a_worker(queue: Install) -> None:
    failing = queue.run_dag(dag_id="progress_exhaust_check", connections={"USERS": "redis://127.0.0.1:1"})
    assert failing.failed() == ["check_installation"]
    assert failing.says("ok: Postgres (progress_exhaust_requests): version=")
    assert failing.says("warning: salt (progress_exhaust_salt): There is no salt")
    assert failing.says("error: Redis (progress_exhaust_users): Redis at 127.0.0.1:1", "does not answer")
    assert failing.says("The installation has errors (ok=", "warning=1 error=1)")
    assert queue.sql("SELECT run_id FROM progress_exhaust.claim") == []
