"""What a site can set, and what an engineer sees in the grid, stands in README.md or docs/."""

import re
from pathlib import Path

import pytest

from dev import docs

PROJECT = docs.PROJECT
DAG_FILE = (PROJECT / "dags" / "progress_exhaust.py").read_text()
DAG_FILES = DAG_FILE + (PROJECT / "dags" / "progress_exhaust_retention.py").read_text()
PAGES = {page.name: page.read_text() for page in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))}
COMMANDS = re.compile(r"^(.*)\n *```(?:sh|bash|sql|cql)$", re.MULTILINE)
EVERYTHING = "\n".join(PAGES.values())
TASK_IDS = re.findall(r'(?:task_id=|^    )"([a-z_]+)"(?:\)|,|: [A-Z]\w+Operator)', DAG_FILE, re.MULTILINE)
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def test_the_settings_table_is_that_of_the_model() -> None:
    page = PAGES["configuration.md"]
    assert docs.with_table(page) == page, "run `make docs`"


def test_an_operator_makes_the_same_ledger_as_the_first_task() -> None:
    assert docs.LEDGER_FILE.read_text() == docs.ledger_sql(), "run `make docs`"


@pytest.mark.parametrize("name", re.findall(r'^    "(\w+)": Param\(', DAG_FILE, re.MULTILINE))
def test_each_param_is_documented(name: str) -> None:
    assert f"| `{name}` |" in PAGES["configuration.md"]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"PROGRESS_EXHAUST_[A-Z_]+", DAG_FILES))))
def test_each_environment_variable_of_the_dag_is_documented(name: str) -> None:
    assert f"| `{name}` |" in PAGES["configuration.md"]


@pytest.mark.parametrize("name", ["requests", "cassandra", "users", "content", "org", "salt", "store"])
def test_each_connection_is_documented(name: str) -> None:
    assert f"| `progress_exhaust_{name}` |" in PAGES["configuration.md"]
    assert f"progress_exhaust_{name}" in PAGES["README.md"]


@pytest.mark.parametrize("task_id", TASK_IDS)
def test_each_task_stands_in_the_readme(task_id: str) -> None:
    assert task_id in PAGES["README.md"]


def test_no_task_was_overlooked() -> None:
    assert len(TASK_IDS) == 9


# The Spark job's keys that an adopter has (data model, section 7).
INCUMBENTS_KEYS = [
    "sunbird.courses.keyspace", "sunbird.user.report.keyspace", "report_user_enrolments", "sunbird.content.hierarchy.keyspace",
    "redis.user.database.index", "sunbird.course.redis.relationCache.id", "sunbird.course.optionalnodes",
    "assessment.metrics.supported.contenttype", "assessment.metrics.supported.objecttype",
    "assessment.metrics.supported.primaryCategories", "assessment.metrics.bestscore.report",
    "data_exhaust.batch.limit.per.request", "exhaust.batches.limit.per.channel", "exhaust.file.size.limit.per.channel",
    "cassandraReadConsistency",
]  # fmt: skip
MIGRATED = re.findall(r"^\| (.+?) \| (?:`(\w+)`|none) \|", PAGES["migration.md"].partition("## Step by step")[0], re.MULTILINE)


@pytest.mark.parametrize("key", INCUMBENTS_KEYS)
def test_each_setting_of_the_spark_job_has_its_place_here(key: str) -> None:
    assert [setting for theirs, setting in MIGRATED if f"`{key}`" in theirs]


def test_each_setting_that_one_migrates_to_exists() -> None:
    assert len(MIGRATED) > len(INCUMBENTS_KEYS)
    for _, setting in MIGRATED:
        assert not setting or setting == "PROGRESS_EXHAUST_SCHEDULE" or f"| `{setting}` |" in docs.settings_table()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_each_make_command_in_the_docs_exists(page: str) -> None:
    named = set(re.findall(r"(?:^|`|\" )make ([a-z-]+)", PAGES[page], re.MULTILINE))
    assert named <= MAKE_TARGETS


@pytest.mark.parametrize("page", sorted(PAGES))
def test_each_command_is_run_by_a_test_or_says_that_it_is_not(page: str) -> None:
    for before in COMMANDS.findall(PAGES[page]):
        mark = re.fullmatch(r" *<!-- (?:run by (.+)|not run: .+) -->", before)
        assert mark, f"what runs the commands after {before!r}?"
        assert all((PROJECT / path).exists() for path in (mark[1] or "").split(", ") if path), before


@pytest.mark.parametrize("page", sorted(PAGES))
def test_each_link_to_a_file_leads_somewhere(page: str) -> None:
    folder = PROJECT if page == "README.md" else PROJECT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert Path(folder, target).exists(), target


@pytest.mark.parametrize("page", ["configuration.md", "layouts.md", "security.md"])
@pytest.mark.parametrize("words", ["no summary.txt at TEXT_KEY and PUBLIC_KEY", "the csv comes instead of the workbook"])
def test_what_a_requester_gets_less_or_else_is_told(page: str, words: str) -> None:
    assert words in " ".join(PAGES[page].replace("`", "").split())


@pytest.mark.parametrize("page", ["promises.md", "threat-model.md"])
def test_each_test_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"`((?:unit|dag|integration|servers|stores|faults|golden)/[\w.-]+)`", PAGES[page]))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (PROJECT / "tests" / name).exists()] == []
