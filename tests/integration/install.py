"""One Sunbird install for a test: databases, keyspaces and a content API of its own on the servers that all tests share."""

import fcntl
import json
import os
import queue
import re
import secrets
import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import psycopg2.extras
import redis

from dev import services
from dev.content_api import ContentServer, serve
from dev.grants import GRANTS, cassandra_statements, psql
from dev.load import Names, load, submit
from dev.servers import REDIS_DATABASES
from dev.world import Row, World
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook

PROJECT = Path(__file__).resolve().parents[2]
# Still the 27th in UTC, and the 28th where the reports are dated.
RUN_AFTER, REPORT_DAY = datetime(2022, 9, 27, 20, 0, tzinfo=UTC), date(2022, 9, 28)
RUN_TIMEOUT_SECONDS = 600  # a machine that runs other tests at the same time is slow
CONTENT_PATH, ORG_PATH, KEYS_PATH = "/api/content", "/api/org", "/keys"
JOB_REQUEST = psql((GRANTS / "job_request.sql").read_text())


def reserve_redis_databases() -> tuple[int, int]:
    """Return two Redis databases that no other test process uses, nor the demo; they are this one's until it ends."""
    folder = services.Settings.from_environment().data
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(14, REDIS_DATABASES, 2):
        lock = os.open(folder / f"redis-database-{number}.lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return number, number + 1
    raise AssertionError("Every Redis database is in use: end other test runs")


USERS_DB, RELATIONS_DB = reserve_redis_databases()


@dataclass(frozen=True)
class RunResult:
    """How a DAG run ended."""

    run_id: str
    state: str
    tasks: list[Row]  # task_id, map_index, state, tries, label
    # If recorded, of each statement sent to Cassandra: query, values as (column, value), the addresses of the nodes that were
    # asked, in turn, and of the one that answered, and how often it was retried.
    reads: list[Row]
    log: str  # all that was printed

    def states(self, task_id: str) -> list[str | None]:
        return [task["state"] for task in self.tasks if task["task_id"] == task_id]

    def failed(self) -> list[str]:
        """Return the tasks that failed themselves; settle_requests fails with any of them."""
        failed = [task["task_id"] for task in self.tasks if task["state"] == "failed"]
        return sorted(set(failed) - {"settle_requests"})

    def says(self, *words: str) -> bool:
        """Tell whether one line of the log holds all of the words."""
        return any(all(word in line for word in words) for line in self.log.splitlines())


class Airflow:
    """The process that runs the DAG, and its metadata."""

    def __init__(self, home: Path, more: Mapping[str, str] | None = None, log_level: str = "INFO") -> None:
        self.home = home
        self.log_level = log_level
        self._runs = 0
        self.metadata = home / "airflow.db"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PROGRESS_"))}
        environment |= {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.metadata}",
            # Everything that a site may log, at its most talkative.
            "AIRFLOW__LOGGING__LOGGING_LEVEL": log_level,
            "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.task.operators.progress_exhaust=DEBUG airflow.task.hooks=DEBUG",
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "plugins")]),
        } | dict(more or {})
        self._log = (home / "runner.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.runner"],
            cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def run(self, order: Row) -> RunResult:
        """Run the DAG once."""
        self._runs += 1
        log = self.home / f"run-{self._runs}.log"
        # Airflow names a run by the time that it was due.
        due = RUN_AFTER + timedelta(days=order.pop("days_later", 0), seconds=self._runs)
        order = order | {"log": str(log), "run_after": due.isoformat()}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        try:
            answer = json.loads(self._answers.get(timeout=RUN_TIMEOUT_SECONDS) or '{"error": "the process ended"}')
        except queue.Empty:
            answer = {"error": f"no answer in {RUN_TIMEOUT_SECONDS} s"}
        text = log.read_text(errors="replace") if log.exists() else ""
        if "error" in answer:
            raise AssertionError(f"{answer['error']}\n{text}\n{(self.home / 'runner.log').read_text()[-3000:]}")
        # For the report of a test that fails.
        print("\n".join(line for line in text.splitlines() if "[error " in line or "operators.progress_exhaust" in line))
        return RunResult(log=text, **answer)

    def all_that_is_kept(self) -> str:
        """Return every row of the metadata's every table as one text, as it stands and with JSON's escapes undone."""
        with closing(sqlite3.connect(self.metadata)) as metadata:
            tables = [name for (name,) in metadata.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = [str(row) for table in tables for row in metadata.execute(f'SELECT * FROM "{table}"')]
        text = "\n".join(rows)
        return text + re.sub(r"\\+u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)

    @property
    def pid(self) -> int:
        return self._process.pid

    def set_state(self, run_id: str, state: str) -> None:
        """Say of a run, in Airflow's own words, where it stands."""
        with closing(sqlite3.connect(self.metadata, timeout=30)) as metadata, metadata:
            changed = metadata.execute("UPDATE dag_run SET state = ? WHERE run_id = ?", [state, run_id])
            assert changed.rowcount == 1

    def stop(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join()
        self._process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")


@dataclass
class Install:
    """The stores around a report, and the DAG that runs against them.

    A test may do anything with `postgres`, `session`, `users` and `relations`; the DAG has a login of its own in each, with the
    rights of docs/grants/ and no other.
    """

    airflow: Airflow
    folder: Path
    login: str  # its name in all three
    password: str
    postgres: str  # URI
    session: Any  # of Cassandra
    cassandra_port: int
    names: Names
    users: Any  # Redis, the user cache
    relations: Any  # Redis, the optional nodes
    content: ContentServer
    settings: Row = field(default_factory=dict)  # more of them, for every run
    cassandra_hosts: str = "127.0.0.1"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    @property
    def staging(self) -> Path:
        return self.folder / "staging"

    def connections(self) -> dict[str, str]:
        redis_port = self.users.connection_pool.connection_kwargs["port"]
        login = f"{self.login}:{self.password}"
        return {
            "REQUESTS": f"postgresql://{login}@{self.postgres.rpartition('@')[2]}",
            "CASSANDRA": f"cassandra://{login}@{quote(self.cassandra_hosts)}:{self.cassandra_port}",
            "USERS": f"redis://{login}@127.0.0.1:{redis_port}",
            "CONTENT": f"{self.content.url}{CONTENT_PATH}",
            "ORG": f"{self.content.url}{ORG_PATH}",
        }

    def all_settings(self, **changes: Any) -> Row:
        settings = {
            "reports_container_url": self.reports.as_uri(),
            "staging_url": self.staging.as_uri(),
            "user_cache_db": USERS_DB,
            "optional_nodes_db": RELATIONS_DB,
        }
        return settings | self.names.settings | self.settings | changes

    def environment(self, settings: Row | None = None, connections: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return Airflow's connections and Variable for this install; a connection given as nothing is not there."""
        connected = self.connections() | dict(connections or {})
        return {f"AIRFLOW_CONN_PROGRESS_EXHAUST_{name}": uri for name, uri in connected.items() if uri} | {
            "AIRFLOW_VAR_PROGRESS_EXHAUST": json.dumps(self.all_settings(**(settings or {})))
        }

    def run_dag(
        self,
        conf: Row | None = None,
        *,
        settings: Row | None = None,
        connections: Mapping[str, str] | None = None,
        retries: int = 0,
        record_reads: bool = False,
        dag_id: str = "progress_exhaust",
        say: str = "",
        days_later: int = 0,
    ) -> RunResult:
        """Run the DAG once; what is given changes settings and connections for this run alone.

        say: what is logged after the run, masked as a task's log is
        days_later: how many days after REPORT_DAY the run is due
        """
        environment = self.environment(settings, connections) | {
            "PROGRESS_EXHAUST_RETRIES": str(retries),
            "PROGRESS_EXHAUST_RETRY_DELAY_SECONDS": "0.1",
        }
        order = {"environment": environment, "conf": conf, "record_reads": record_reads, "dag_id": dag_id, "say": say}
        order["days_later"] = days_later
        result = self.airflow.run(order)
        assert self.airflow.log_level == "DEBUG" or self.password not in result.log
        return result

    def let_into_cassandra(self) -> None:
        self.session.execute(f"CREATE ROLE {self.login} WITH PASSWORD = '{self.password}' AND LOGIN = true")
        for statement in cassandra_grants(self.names, self.login):
            self.session.execute(statement)

    def let_into_redis(self) -> None:
        self.users.execute_command("ACL SETUSER", *redis_rules(self.login, self.password))

    def let_into_postgres(self) -> None:
        self.sql(f"CREATE ROLE {self.login} LOGIN PASSWORD '{self.password}'")
        # What every role may do elsewhere, this one may do by a grant.
        name = self.postgres.rpartition("/")[2]
        self.sql(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC")

    def make_tables(self) -> None:
        """Make new, empty job_request and ledger tables, and grant the DAG's role what it needs of them."""
        self.sql("DROP SCHEMA IF EXISTS progress_exhaust CASCADE; DROP TABLE IF EXISTS job_request CASCADE")
        self.sql(JOB_REQUEST)
        self.sql(psql((GRANTS / "ledger.sql").read_text()))
        self.grant()

    def grant(self, file: str = "postgres.sql") -> None:
        grants = (GRANTS / file).read_text()
        self.sql(psql(grants, role=self.login, DBNAME=self.postgres.rpartition("/")[2]))

    def load(self, world: World, names: Names | None = None) -> None:
        """Load a world into the install's tables, or into other tables, and submit its requests."""
        with closing(psycopg2.connect(self.postgres)) as pg:
            load(
                world, session=self.session, redis_users=self.users, redis_relations=self.relations, pg=pg,
                content_data=self.content.data, names=names or self.names,
            )  # fmt: skip

    def submit(self, requests: list[Row], table: str = "job_request") -> None:
        with closing(psycopg2.connect(self.postgres)) as pg:
            submit(pg, requests, table)

    def sql(self, statement: str, values: Any = None) -> list[Row]:
        """Run one statement on Postgres; return its rows."""
        with (
            closing(psycopg2.connect(self.postgres)) as pg,
            pg,
            pg.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor,
        ):
            cursor.execute(statement, values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def rows(self) -> dict[str, Row]:
        """Return job_request by request id."""
        return {row["request_id"]: row for row in self.sql("SELECT * FROM job_request")}

    def row(self, request: Row) -> Row:
        return self.rows()[request["request_id"]]

    def published(self) -> dict[str, bytes]:
        """Return the files of the reports container, by key."""
        files = sorted(path for path in self.reports.rglob("*") if path.is_file())
        return {path.relative_to(self.reports).as_posix(): path.read_bytes() for path in files}

    def csv(self, key: str) -> bytes:
        """Return the one csv of a published package."""
        with zipfile.ZipFile(self.reports / key) as package:
            [name] = package.namelist()
            assert package.testzip() is None
            assert name == Path(key).with_suffix(".csv").name
            return package.read(name)

    def learner_tables(self, **changes: Any) -> LearnerTablesHook:
        """Return the hook of this install's tables. Its connections have to be in the environment."""
        cassandra, names = "progress_exhaust_cassandra", self.names
        arguments: dict[str, Any] = {
            "enrolments": (cassandra, names.enrolments_by_batch),
            "courses": (cassandra, names.courses),
            "hierarchies": (cassandra, f"{names.hierarchies}.content_hierarchy"),
            "consistency": "LOCAL_ONE",
            "keys_per_read": 100,
            "reads_in_flight": 4,
            "timeout_seconds": 60,
        }
        return LearnerTablesHook(**arguments | changes)

    @property
    def installation(self) -> str:
        """Return the id of the Airflow that has run the DAG, from its claims and batches."""
        [row] = self.sql(
            "SELECT installation FROM progress_exhaust.claim UNION SELECT installation FROM progress_exhaust.batch_run"
        )
        return str(row["installation"])

    def run_staging(self, run_id: str) -> Path:
        """Return the staging folder of a run, in the folder of its installation."""
        [folder] = self.staging.glob(f"*/{run_id}")
        return folder

    def staged(self) -> list[str]:
        """Return what is in staging, by the path below the folder of its installation."""
        paths = [path.relative_to(self.staging).as_posix() for path in self.staging.rglob("*")]
        return sorted(filter(None, (re.sub("^[0-9a-f]{12}(/|$)", "", path) for path in paths)))


@contextmanager
def new_install(airflow: Airflow, folder: Path) -> Iterator[Install]:
    """Make an install, and remove it again."""
    settings = services.Settings.from_environment()
    name = f"test_{secrets.token_hex(4)}"
    keyspaces = {"sunbird_courses": f"{name}_courses", "dev_hierarchy_store": f"{name}_hierarchies", "sunbird": f"{name}_sunbird"}
    names = Names(
        courses=keyspaces["sunbird_courses"],
        hierarchies=keyspaces["dev_hierarchy_store"],
        enrolments_by_user=f"{keyspaces['sunbird_courses']}.user_enrolments",
        enrolments_by_batch=f"{keyspaces['sunbird_courses']}.report_user_enrolments",
    )
    port = settings.port("cassandra")
    login, password = name, secrets.token_urlsafe(18)
    uri = services.create_database(name)
    content_data = folder / "content"
    content_data.mkdir()
    users, relations = (redis.Redis(port=settings.port("redis"), db=number) for number in (USERS_DB, RELATIONS_DB))
    with services.connected_cassandra(port) as session, serve(content_data) as content, users, relations:
        put_below((CONTENT_PATH, ORG_PATH, KEYS_PATH), content)
        session.default_timeout = 60.0
        services.apply_schema(session, keyspaces)
        users.flushdb()
        relations.flushdb()
        install = Install(airflow, folder, login, password, uri, session, port, names, users, relations, content)
        try:
            install.let_into_cassandra()
            install.let_into_redis()
            install.let_into_postgres()
            install.make_tables()
            yield install
        finally:
            session.execute(f"DROP ROLE IF EXISTS {login}")
            for keyspace in keyspaces.values():
                session.execute(f"DROP KEYSPACE {keyspace}")
            users.acl_deluser(login)
            drop_database(uri)


def put_below(paths: tuple[str, ...], content: ContentServer) -> None:
    """Let the content API answer below these paths alone, as a gateway does."""

    class BelowPath(content.RequestHandlerClass):  # type: ignore[name-defined, misc]
        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            if not self.path.startswith(tuple(f"{path}/" for path in paths)):
                self.send_error(404)
                return False
            return True

    content.RequestHandlerClass = BelowPath


def cassandra_grants(names: Names, role: str) -> list[str]:
    """Return the statements of docs/grants for an install's tables, both kinds of enrolment table among them."""
    text = ";\n".join(cassandra_statements()).replace(" exhaust", f" {role}") + ";\n"
    if names.users:
        more = ";\n".join(cassandra_statements("cassandra-users.cql")).replace(" exhaust", f" {role}") + ";\n"
        text += more.replace(" sunbird.", f" {names.users}.")
    text = text.replace("dev_hierarchy_store.", f"{names.hierarchies}.")
    texts = (
        text.replace("sunbird_courses.report_user_enrolments", table).replace("sunbird_courses.", f"{names.courses}.")
        for table in (names.enrolments_by_batch, names.enrolments_by_user)
        if table
    )
    return [statement for statement in dict.fromkeys("".join(texts).split(";\n")) if statement.strip()]


def redis_rules(user: str, password: str) -> list[str]:
    """Return the words of docs/grants/redis.acl for ACL SETUSER."""
    _, _, *rules = (GRANTS / "redis.acl").read_text().split()
    return [user, "reset", *(f">{password}" if rule == ">PASSWORD" else rule for rule in rules)]


def drop_database(uri: str) -> None:
    """Drop an install's database, and its role of the same name."""
    server, _, name = uri.rpartition("/")
    with closing(psycopg2.connect(f"{server}/postgres")) as pg:
        pg.autocommit = True
        cursor = pg.cursor()
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        cursor.execute(f'DROP ROLE IF EXISTS "{name}"')
