"""No learner, no password and no key shows anywhere but in the reports: planted in data and connections, then looked for."""

import base64
import re
from collections.abc import Iterator

import pytest

from dev.world import ORG, Row, World, batch_world, request_row
from tests.integration.install import Airflow, Install, new_install
from tests.openssl import platform_encrypted

PLANT = "zqplant"  # in each of them
SALT, TEXT, LOGIN = f"{PLANT}-salt", f"{PLANT} text", f"{PLANT}-login:{PLANT}-password"
STORED = {"encrypted": platform_encrypted(TEXT, SALT), "plain": TEXT, "of another salt": platform_encrypted(TEXT, "other")}
CLOSED_PORT = "127.0.0.1:1"  # where no server is
SALTED = {"SALT": f"generic://:{SALT}@"}


def planted() -> World:
    """Return a batch whose every learner, field by field, differs from all other text."""
    world = batch_world(12, nested=1, assessments=2, leaves=5)

    def learner(user_id: str) -> str:
        return f"{PLANT}-learner-{user_id}"

    world.enrolments = [row | {"userid": learner(row["userid"])} for row in world.enrolments]
    world.enrolments[3] |= {"enrolleddate": f"{PLANT} day", "enrolled_date": None}
    world.aggregates = [row | {"user_id": learner(row["user_id"])} for row in world.aggregates]
    world.attempts = [row | {"user_id": learner(row["user_id"])} for row in world.attempts]
    world.attempts[0] |= {"grand_total": f"{PLANT} grade", "total_score": None}
    secret = ("firstname", "lastname", "state", "district", "block", "schoolname", "email", "phone")
    world.users = [
        (learner(user_id), fields | {name: f"{PLANT} {name}" for name in secret}) for user_id, fields in world.users if fields
    ]
    return world


@pytest.fixture(scope="module")
def install(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """Give an install whose DAG runs with everything logged, its drivers' debug messages too."""
    airflow = Airflow(tmp_path_factory.mktemp("debug"), log_level="DEBUG")
    try:
        with new_install(airflow, tmp_path_factory.mktemp("install")) as made:
            yield made
    finally:
        airflow.stop()


@pytest.fixture(scope="module")
def world(install: Install) -> World:
    made = planted()
    asked, made.requests = made.requests, []
    install.load(made)
    made.requests = asked
    return made


def places(install: Install, logs: list[str]) -> dict[str, str]:
    """Return all that is kept of a run but for the reports and the learners' own data in staging, as texts by place."""
    rows = [{**row, "encryption_key": None} for row in install.rows().values()]
    files = [path for folder in (install.staging, install.reports) for path in folder.rglob("*")]
    kept = [path for path in install.airflow.home.rglob("*") if path.suffix in (".log", ".json", ".cfg")]
    return {
        "what was printed": without_stand_in("\n".join(logs)),
        "Airflow's metadata": install.airflow.all_that_is_kept(),
        "Airflow's files": "\n".join(without_stand_in(path.read_text(errors="replace")) for path in kept),
        "the ledger": str([install.sql(f"SELECT * FROM progress_exhaust.{table}") for table in ("claim", "batch_run")]),
        "job_request": str(rows),
        "file names": "\n".join(map(str, files)),
        # Staging is private: it may name the first learner of a chunk.
        "the manifests of the stages": re.sub(
            f"{PLANT}-learner-[0-9a-f-]+", "", "\n".join(path.read_text() for path in files if path.suffix == ".json")
        ),
    }


def without_stand_in(log: str) -> str:
    """Remove the debug messages of dag.test()'s stand-in for Airflow's supervisor; the real one omits what is to be masked."""
    return "\n".join(line for line in log.splitlines() if "loc=supervisor.py:" not in line or "MaskSecret" not in line)


def leaks(install: Install, logs: list[str]) -> list[str]:
    secrets = [PLANT, install.password, *STORED.values(), base64.b64encode(PLANT.encode()).decode().rstrip("=")[:-1]]
    found = []
    for place, text in places(install, logs).items():
        for secret in secrets:
            at = text.find(secret)
            if at >= 0:
                found.append(f"{place}: …{text[max(0, at - 200) : at + 60]}…")
    return found


@pytest.fixture
def asked(queue: Install, world: World) -> Row:
    """Submit three requests for the batch, each with a key in another form."""
    data = world.requests[0]["request_data"]
    requests = [
        request_row(data, label=f"label {form}", channel=ORG, by=form, at=world.requests[0]["dt_job_submitted"])
        | {"encryption_key": key}
        for form, key in STORED.items()
    ]
    queue.submit(requests)
    return requests[0]


def test_a_run_that_succeeds_shows_no_learner_or_secret(queue: Install, asked: Row) -> None:
    result = queue.run_dag(connections=SALTED, settings={"learners_per_chunk": 5, "summary_file": True})
    assert [task["state"] for task in result.tasks if task["task_id"] == "batch.mark_complete"].count("success") == 2
    assert len(queue.published()) == 2
    assert leaks(queue, [result.log]) == []


def wrong_type(install: Install, world: World) -> None:
    """Let the cache hold something else than a hash for one learner, as a program that went wrong leaves it."""
    [(user_id, _), *_] = world.users
    install.users.delete(f"user:{user_id}")
    install.users.rpush(f"user:{user_id}", f"{PLANT} of another type")


def strict_table(install: Install, world: World) -> None:
    """Let the table refuse a row, which Postgres then quotes with its key."""
    install.sql("ALTER TABLE job_request ADD CHECK (status <> 'PROCESSING')")


def no_rights(install: Install, world: World) -> None:
    install.sql(f'REVOKE UPDATE ON progress_exhaust.batch_run FROM "{install.login}"')
    for column in ("stage", "state", "counts", "seconds", "size_bytes", "object_key", "error", "changed_at"):
        install.sql(f'REVOKE UPDATE ({column}) ON progress_exhaust.batch_run FROM "{install.login}"')


FAILURES: dict[str, Row] = {
    "the cache has another type": {"first": wrong_type, "task": ""},
    "the cache is down": {"connections": {"USERS": f"redis://{LOGIN}@{CLOSED_PORT}"}, "task": "batch.fetch_hierarchy"},
    "Cassandra is down": {"connections": {"CASSANDRA": f"cassandra://{LOGIN}@{CLOSED_PORT}"}, "task": "list_batches"},
    "Cassandra refuses the password": {"wrong": "CASSANDRA", "task": "list_batches"},
    "Postgres is down": {"connections": {"REQUESTS": f"postgresql://{LOGIN}@{CLOSED_PORT}/sunbird"}, "task": "wait_for_requests"},
    "Postgres refuses the password": {"wrong": "REQUESTS", "task": "wait_for_requests"},
    "Redis refuses the password": {"wrong": "USERS", "task": "batch.fetch_hierarchy"},
    "the content API is down": {"connections": {"CONTENT": f"http://{LOGIN}@{CLOSED_PORT}/api"}, "task": "list_batches"},
    "the org API is down": {"connections": {"ORG": f"http://{LOGIN}@{CLOSED_PORT}/api"}, "task": "batch.package"},
    "a row is refused": {"first": strict_table, "task": "claim_requests"},
    "a right is missing": {"first": no_rights, "task": "claim_requests"},
    "the cache lacks half of them": {"settings": {"user_cache_db": 13}, "task": ""},
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_run_that_fails_shows_no_learner_or_secret(queue: Install, world: World, asked: Row, name: str) -> None:
    failure = FAILURES[name]
    connections = SALTED | failure.get("connections", {})
    if "wrong" in failure:
        uri = queue.connections()[failure["wrong"]]
        connections[failure["wrong"]] = uri.replace(f"{queue.login}:{queue.password}@", f"{queue.login}:{PLANT}-password@")
    failure.get("first", lambda *_: None)(queue, world)
    try:
        failed = queue.run_dag(connections=connections, settings=failure.get("settings"), retries=1)
    finally:
        if failure.get("first") is wrong_type:
            for user_id, fields in world.users:
                queue.users.delete(f"user:{user_id}")
                queue.users.hset(f"user:{user_id}", mapping=fields)
    assert failure["task"] in [*failed.failed(), ""], failed.failed()
    assert leaks(queue, [failed.log]) == []
    assert not [folder for folder in queue.staging.glob("*") if folder.stat().st_mode & 0o077]


def test_what_is_looked_for_would_be_found(queue: Install, world: World, asked: Row) -> None:
    assert len(leaks(queue, [f"a line with {PLANT}-learner"])) == 1
    queue.sql("UPDATE job_request SET err_message = %s WHERE request_id = %s", [STORED["encrypted"], asked["request_id"]])
    assert len(leaks(queue, [])) == 1
    queue.staging.mkdir()
    (queue.staging / f"{PLANT}.parquet").touch()
    assert [found.partition(":")[0] for found in leaks(queue, [])] == ["job_request", "file names"]
