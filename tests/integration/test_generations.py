"""One world in the tables of each generation of Sunbird: the reports have the same bytes."""

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

import pytest

from dev.load import Names
from dev.servers import apply_schema
from dev.world import Row, World, archive_attempts, sample_world
from progress_exhaust.checks.installation import all_checks
from progress_exhaust.report.layout import CONTACT
from tests.integration import golden
from tests.integration.install import REPORT_DAY, Install, RunResult, cassandra_grants
from tests.oracle import expected_csv

REQUESTS = (0, 3)  # of the sample world: by the org that owns the collection, and by another one
SPARK = ("spark-1.0", "spark-1.1")
ATTEMPTS = "assessment_aggregator"
CHUNK = 40  # learners


def world_to_load() -> World:
    return replace(sample_world(), requests=[])


def archived_world() -> World:
    made = world_to_load()
    for request in requests():
        archive_attempts(made, request["request_data"]["batchId"])
    return made


def requests() -> list[Row]:
    return [sample_world().requests[number] for number in REQUESTS]


@pytest.fixture(scope="module")
def settings(install: Install) -> Iterator[dict[str, Row]]:
    """Load the world into the tables of each generation; yield the settings that name them."""
    prefix = install.names.courses
    names = {generation: Names.of_spark(generation, f"{prefix}_") for generation in SPARK}
    archived = f"{prefix}_archived"
    names["ed, archived"] = Names(
        f"{archived}_courses", f"{archived}_hierarchies", f"{archived}_courses.user_enrolments",
        f"{archived}_courses.report_user_enrolments",
    )  # fmt: skip
    install.load(world_to_load())
    try:
        for name, tables in names.items():
            apply_schema(install.session, tables.keyspaces, name if name in SPARK else "ed")
            for statement in cassandra_grants(tables, install.login):
                install.session.execute(statement)
            install.load(world_to_load() if name in SPARK else archived_world(), tables)
        yield {
            "ed, by batch": {},
            "ed, by user": {"enrolments_table": install.names.enrolments_by_user},
            **{name: tables.settings for name, tables in names.items()},
        }
    finally:
        for tables in names.values():
            for keyspace in tables.keyspaces.values():
                install.session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}")


def reports(queue: Install, settings: Row) -> tuple[RunResult, list[bytes]]:
    """Run the DAG for the requests; return the run, with what it read in this process, and the csv of each."""
    queue.submit(requests())
    result = queue.run_dag(settings=settings, record_reads=True)
    assert result.state == "success", result.failed()
    return result, [queue.csv(queue.row(request)["download_urls"][0]) for request in requests()]


def expected() -> list[bytes]:
    return [(golden.FOLDER / f"{name}.csv").read_bytes() for name in ("literacy-batch1", "science-for-another-org")]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ed, by batch", "assessment_aggregator: by "),
        ("ed, by user", "The enrolments are keyed by user: one scan"),
        ("spark-1.0", "The enrolments have an index on the course: read by it"),
        ("spark-1.1", "assessment_aggregator: in the order of the learners, because it is keyed by batch"),
    ],
)
def test_the_same_world_makes_the_same_bytes(queue: Install, settings: dict[str, Row], name: str, says: str) -> None:
    result, made = reports(queue, settings[name] | {"learners_per_chunk": CHUNK, "processes_per_task": 1})
    assert result.says(says)
    assert [sha256(one).hexdigest() for one in made] == [sha256(one).hexdigest() for one in expected()]
    if name in SPARK:
        check_reads(result)


def test_users_from_tables_make_the_same_bytes(queue: Install, settings: dict[str, Row]) -> None:
    queue.submit(requests())
    changes = {"user_source": "tables", "learners_per_chunk": CHUNK, "processes_per_task": 1}
    result = queue.run_dag(settings=settings["spark-1.1"] | changes, connections={"USERS": ""}, record_reads=True)
    assert result.state == "success", result.failed()
    assert [queue.csv(queue.row(request)["download_urls"][0]) for request in requests()] == expected()
    of_users = [one["query"] for one in result.reads if "_sunbird.user " in one["query"]]
    assert of_users and not any(re.search(f"{CONTACT.pattern}|[*]|framework", query, re.IGNORECASE) for query in of_users)
    assert all(len(dict(one["values"])) for one in result.reads if "_sunbird.location " in one["query"])


def test_the_check_covers_the_tables_of_users(queue: Install, settings: dict[str, Row], monkeypatch: pytest.MonkeyPatch) -> None:
    environment = queue.environment(settings["spark-1.1"] | {"user_source": "tables"}, {"USERS": ""})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    checks = all_checks(environment["AIRFLOW_VAR_PROGRESS_EXHAUST"], sees_pools=False)
    assert "Redis" not in {check.name for check in checks}
    found = {finding.check: finding.text for check in checks if check.name == "Cassandra" for finding in check.find()}
    tables = ("user", "location", "organisation", "hierarchy_relations")
    assert [text for name, text in found.items() if name.endswith(tuple(f".{table}" for table in tables))] == ["readable"] * 4


def check_reads(result: RunResult) -> None:
    """Check that each batch's enrolments are one query, each chunk's attempts another one, and that none scans the ring."""
    batches = [request["request_data"]["batchId"] for request in requests()]
    enrolled = [sum(row["batchid"] == batch for row in sample_world().enrolments) for batch in batches]
    reads = {table: [one for one in result.reads if f".{table}" in one["query"]] for table in ("user_enrolments", ATTEMPTS)}
    assert len(reads["user_enrolments"]) == len(batches)
    assert len(batches) < len(reads[ATTEMPTS]) <= sum(-(-learners // CHUNK) for learners in enrolled)
    assert not [one for of_table in reads.values() for one in of_table if "token(" in one["query"]]


def test_the_copy_that_spark_does_not_fill_is_an_error(queue: Install, settings: dict[str, Row]) -> None:
    copy = f"{settings['spark-1.1']['courses_keyspace']}.report_user_enrolments"
    queue.session.execute(f"GRANT SELECT ON TABLE {copy} TO {queue.login}")
    queue.submit(requests())
    result = queue.run_dag(settings=settings["spark-1.1"] | {"enrolments_table": copy})
    assert result.failed() == ["batch.extract"]
    assert result.says(
        f"table {copy} is a copy that Sunbird Spark does not fill", "Set enrolments_table", "user_enrolments of the same keyspace"
    )
    assert queue.published() == {}


def test_archived_attempts_lose_only_what_the_aggregates_do_not_have(queue: Install, settings: dict[str, Row]) -> None:
    """The job keeps the best total_score: a score that an attempt has in grand_total alone is lost."""
    _, made = reports(queue, settings["ed, archived"])
    world = archived_world()
    assert made == [expected_csv(world, request, request["request_data"]["batchId"], REPORT_DAY) for request in requests()]
    lost = set()
    for one, other in zip(map(cells, made), map(cells, expected()), strict=True):
        assert one.keys() == other.keys()
        lost |= {key for key, value in one.items() if value != other[key]}
    without_number = {
        (row["user_id"], f"{row['content_id']} - Score")
        for row in sample_world().attempts
        if not math.isfinite(row.get("total_score", math.nan)) and row.get("grand_total")
    }
    scores = {key for key in lost if key[1].endswith(" - Score")}
    assert scores and scores <= without_number
    assert lost - scores == {(user_id, "Total Score") for user_id, _ in scores}


def cells(data: bytes) -> dict[tuple[str, str], str]:
    """Return the cells of a report, by learner and label."""
    rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
    return {(row["User UUID"], label): value for row in rows for label, value in row.items()}
