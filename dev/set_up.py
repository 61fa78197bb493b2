"""Once, before Airflow starts in docker-compose: databases, tables, pool, and the sample world with its requests.

Everything is made where it is missing. Where the servers are is read from Airflow's connection variables.
"""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/, where a folder is called cassandra: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import psycopg2
from psycopg2 import sql

from dev.load import Places, load_part
from dev.run_once import POOL_SLOTS
from dev.servers import apply_schema
from dev.world import sample_world

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Make all that Airflow expects to find."""
    os.environ.setdefault("PROGRESS_EXHAUST_DEV_CONTENT_DATA", "/data/content")
    places = Places.from_environment()
    places.content_data.mkdir(parents=True, exist_ok=True)
    make_database(places.requests, urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).path.lstrip("/"))
    session = places.connect_cassandra()
    apply_schema(session, {})
    session.cluster.shutdown()
    with closing(psycopg2.connect(places.requests)) as connection, connection:
        connection.cursor().execute((HERE / "postgres" / "job_request.sql").read_text())
    load_part(places, sample_world(), 0, 1)
    subprocess.run(["airflow", "db", "migrate"], check=True)
    subprocess.run(["airflow", "pools", "set", "progress_exhaust", str(POOL_SLOTS), "batches at work at a time"], check=True)


def make_database(server: str, name: str) -> None:
    with closing(psycopg2.connect(server)) as connection:
        connection.autocommit = True  # CREATE DATABASE refuses a transaction.
        cursor = connection.cursor()
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        if cursor.rowcount == 0:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


if __name__ == "__main__":
    main()
