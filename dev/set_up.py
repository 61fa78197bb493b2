"""Once, before Airflow starts in docker-compose: databases, tables, logins with their rights, buckets, and the pool.

Everything is made where it is missing, so that a second run changes nothing. Where the servers are, and the logins of their
owners, are read from Airflow's connection variables. The passwords of the new logins are in EXHAUST_PASSWORD and so on.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/, where a folder is called cassandra: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import psycopg2
from cassandra.cluster import NoHostAvailable
from psycopg2 import sql

from dev.grants import GRANTS, cassandra_statements, psql
from dev.load import Places
from dev.run_once import POOL_SLOTS
from dev.servers import CASSANDRA_PASSWORD, CASSANDRA_USER, LOGIN_TIMEOUT_SECONDS, apply_schema, make_database

HERE = Path(__file__).resolve().parent
# The files of docs/grants for the login of the tasks, and for that of the API server.
RIGHTS = {"exhaust": ["postgres.sql"], "operator": ["postgres.sql", "operators.sql"]}


def main() -> None:
    """Make all that Airflow expects to find."""
    places = Places.from_environment()
    airflow = urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    make_database(places.requests, airflow.path.lstrip("/"))
    make_requests_and_logins(places.requests, airflow.path.lstrip("/"))
    session = connect_cassandra(places)
    apply_schema(session, {})
    make_login_of_cassandra(session)
    session.cluster.shutdown()
    subprocess.run(["airflow", "db", "migrate"], check=True)
    make_pool()
    settings = json.loads(os.environ["AIRFLOW_VAR_PROGRESS_EXHAUST"])
    make_buckets({urlsplit(settings[name]).netloc for name in ("reports_container_url", "staging_url")})


def make_requests_and_logins(owner: str, airflow_database: str) -> None:
    """Make job_request, the ledger, and the logins of Postgres with their rights."""
    database = urlsplit(owner).path.lstrip("/")
    with closing(psycopg2.connect(owner)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(psql((GRANTS / "job_request.sql").read_text()))
        cursor.execute(psql((GRANTS / "ledger.sql").read_text()))
        for role in ("airflow", *RIGHTS):
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
            statement = "ALTER ROLE {} LOGIN PASSWORD %s" if cursor.rowcount else "CREATE ROLE {} LOGIN PASSWORD %s"
            cursor.execute(sql.SQL(statement).format(sql.Identifier(role)), [os.environ[f"{role.upper()}_PASSWORD"]])
        cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO airflow").format(sql.Identifier(airflow_database)))
        for role, files in RIGHTS.items():
            for file in files:
                cursor.execute(psql((GRANTS / file).read_text(), role=role, DBNAME=database))


def connect_cassandra(places: Places) -> Any:
    """Return a session of Cassandra's owner. A new server has its default password, which is replaced first."""
    deadline = time.monotonic() + LOGIN_TIMEOUT_SECONDS
    replaced = False
    while True:
        try:
            return places.connect_cassandra()
        except NoHostAvailable:
            if time.monotonic() > deadline:
                raise
        replaced = replaced or replace_default_password(places)
        time.sleep(1)  # a new server knows its user, and then the new password, a moment later


def replace_default_password(places: Places) -> bool:
    """Return False if Cassandra does not accept its default password."""
    place = urlsplit(places.cassandra)
    default = place._replace(netloc=f"{CASSANDRA_USER}:{CASSANDRA_PASSWORD}@{place.hostname}:{place.port}").geturl()
    try:
        session = replace(places, cassandra=default).connect_cassandra()
    except NoHostAvailable:
        return False
    session.execute(f"ALTER ROLE {CASSANDRA_USER} WITH PASSWORD = '{place.password}'")
    session.cluster.shutdown()
    return True


def make_login_of_cassandra(session: Any) -> None:
    session.execute(f"CREATE ROLE IF NOT EXISTS exhaust WITH PASSWORD = '{os.environ['EXHAUST_PASSWORD']}' AND LOGIN = true")
    for statement in cassandra_statements():
        session.execute(statement)


def make_pool() -> None:
    """Make the pool; one that is there may have been given more slots."""
    from airflow.models.pool import Pool

    if Pool.get_pool("progress_exhaust") is None:
        Pool.create_or_update_pool("progress_exhaust", POOL_SLOTS, "batches that run at the same time", include_deferred=False)


def make_buckets(names: set[str]) -> None:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    hook = S3Hook("progress_exhaust_store")
    for name in names:
        if not hook.check_for_bucket(name):
            hook.create_bucket(name, hook.region_name)


if __name__ == "__main__":
    main()
