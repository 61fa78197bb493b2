"""A site without a table of requests: the command creates it, and a portal submits to it, as the docs say."""

import re
from pathlib import Path

import psycopg2
import pytest

from dev.grants import GRANTS, psql
from dev.world import Row, World
from tests.integration.install import PROJECT, Install
from tests.integration.test_cli import command

PAGE = (PROJECT / "docs/how-to/read-sunbird-spark.md").read_text()
[DOCUMENTED] = re.findall(r"^(PYTHONPATH=PLUGINS_FOLDER python .*) init-requests$", PAGE, re.MULTILINE)
[INSERT] = re.findall(r"^```sql\n(INSERT .*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def columns(queue: Install, table: str = "public.job_request") -> list[Row]:
    return queue.sql(
        "SELECT attname, format_type(atttypid, atttypmod) AS kind, attnotnull FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 ORDER BY attnum",
        [table],
    )


@pytest.fixture
def bare(queue: Install) -> Install:
    """Give an install whose platform has no table of requests, and whose login may create tables."""
    queue.sql("DROP TABLE job_request; DROP SCHEMA IF EXISTS portal CASCADE")
    queue.sql(f"GRANT CREATE ON SCHEMA public TO {queue.login}")
    return queue


def test_the_table_is_created_once_and_a_portal_submits_to_it(bare: Install, world: World, tmp_path: Path) -> None:
    missing = command(bare, tmp_path, "submit", "--batches", "b", "--channel", "c")
    assert missing.returncode == 3 and "progress-exhaust init-requests" in missing.stderr
    for answer in ("n\n", ""):
        kept = command(bare, tmp_path, "init-requests", start=DOCUMENTED, answer=answer)
        assert (kept.returncode, kept.stderr.splitlines()[-1]) == (1, "progress-exhaust: error: It is not created")
        assert "CREATE TABLE" in kept.stdout and columns(bare) == []
    created = command(bare, tmp_path, "init-requests", start=DOCUMENTED, answer="y\n")
    assert (created.returncode, created.stderr) == (0, "Create the table? [y/N] \n"), created.stdout
    made = columns(bare)
    assert {row["attname"] for row in made if row["attnotnull"]} == {"tag", "request_id"}
    bare.sql("DROP TABLE job_request")
    bare.sql(psql((GRANTS / "job_request.sql").read_text()))
    assert columns(bare) == made
    bare.grant()

    bare.sql("DROP ROLE IF EXISTS portal")
    database = bare.postgres.rpartition("/")[2]
    bare.sql("CREATE ROLE portal LOGIN PASSWORD 'portal'")
    try:
        bare.sql(psql((GRANTS / "portal.sql").read_text(), role="portal", DBNAME=database))
        batch, channel = world.batches[0]["batchid"], world.requests[0]["requested_channel"]
        insert = INSERT.replace("BATCH", batch).replace("CHANNEL", channel)
        with (
            psycopg2.connect(f"postgresql://portal:portal@{bare.postgres.rpartition('@')[2]}") as portal,
            portal.cursor() as cursor,
        ):
            cursor.execute(insert)
            portal.commit()
            assert bare.run_dag().state == "success"
            cursor.execute("SELECT status, download_urls FROM job_request")
            [(status, urls)] = cursor.fetchall()
        portal.close()
        assert status == "SUCCESS" and len(bare.csv(urls[0]).splitlines()) == 12
    finally:
        bare.sql("DROP OWNED BY portal; DROP ROLE portal")
    again = command(bare, tmp_path, "init-requests", "--yes")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.strip() == "progress-exhaust: error: The table job_request exists already. It is not changed"
    assert len(bare.rows()) == 1


def test_a_missing_schema_is_created_or_the_missing_right_is_named(bare: Install, tmp_path: Path) -> None:
    bare.settings = {"job_request_table": "portal.requests"}
    try:
        refused = command(bare, tmp_path, "init-requests", "--yes")
        assert refused.returncode == 3 and "Traceback" not in refused.stderr
        assert "may not create it" in refused.stderr and 'CREATE SCHEMA "portal"' in refused.stderr
        assert columns(bare, "portal.requests") == []
        database = bare.postgres.rpartition("/")[2]
        bare.sql(f"GRANT CREATE ON DATABASE {database} TO {bare.login}")
        created = command(bare, tmp_path, "init-requests", "--yes")
        assert (created.returncode, created.stderr) == (0, "")
        assert len(columns(bare, "portal.requests")) == 17
    finally:
        bare.settings = {}
        bare.sql("DROP SCHEMA IF EXISTS portal CASCADE")
