"""Once, before Airflow starts in docker-compose: databases, tables, buckets, and the pool.

Everything is made where it is missing, so that a second run changes nothing. Where the servers are is read from Airflow's
connection variables; connections and settings are in the environment themselves.
"""

import json
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

from dev.load import Places
from dev.run_once import POOL_SLOTS
from dev.servers import apply_schema, make_database

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Make all that Airflow expects to find."""
    os.environ.setdefault("PROGRESS_EXHAUST_DEV_CONTENT_DATA", "/data/content")
    places = Places.from_environment()
    make_database(places.requests, urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).path.lstrip("/"))
    with closing(psycopg2.connect(places.requests)) as connection, connection:
        connection.cursor().execute((HERE / "postgres" / "job_request.sql").read_text())
    session = places.connect_cassandra()
    apply_schema(session, {})
    session.cluster.shutdown()
    subprocess.run(["airflow", "db", "migrate"], check=True)
    make_pool()
    settings = json.loads(os.environ["AIRFLOW_VAR_PROGRESS_EXHAUST"])
    make_buckets({urlsplit(settings[name]).netloc for name in ("reports_container_url", "staging_url")})


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
