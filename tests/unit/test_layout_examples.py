"""The examples of docs/how-to/change-the-columns.md make the files that the page shows."""

import json
import re
from collections.abc import Iterator
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from dev import docs
from progress_exhaust.extract.chunk_files import from_parquet, to_parquet
from progress_exhaust.extract.enrolled_chunks import make_enrolled_chunk
from progress_exhaust.extract.facts_chunks import FactSources, make_facts_chunk
from progress_exhaust.extract.inputs import make_inputs
from progress_exhaust.extract.schemas import ARCHIVED_SCORES, ATTEMPTS, NESTED_PROGRESS, rows_to_table
from progress_exhaust.hooks.cassandra.models import Enrolment
from progress_exhaust.report.csv_file import chunk_csv, header
from progress_exhaust.report.eligibility import Eligibility
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.report import CellRules, Report
from progress_exhaust.report.request import Batch, BatchFacts
from progress_exhaust.settings import parse_settings
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.staging.manifests import ExtractInputs
from tests.cql import cql_list, cql_map

COLLECTION, BATCH, QUIZ = "do_2133", "013300978801321105614", "do_2121589132151005906648"


def page(name: str) -> str:
    return (docs.PROJECT / name).read_text()


def section() -> str:
    return page("docs/how-to/change-the-columns.md").partition("\n## Examples\n")[2].partition("\n## ")[0]


def examples() -> Iterator[Any]:
    for part in section().split("\n### ")[1:]:
        title, _, text = part.partition("\n")
        [settings, csv] = re.findall("```(?:json|csv)\n(.*?)```", text, re.DOTALL)
        yield pytest.param(settings, csv, id=title)


def enrolment(user_id: str, completed: int, *, active: bool = True, completed_at: int | None = None) -> Enrolment:
    statuses = cql_map({f"do_{number}": 2 for number in range(completed)})
    return Enrolment(user_id, active, 0, None, completed_at, statuses, cql_list(None), cql_list(None), None)


ENROLMENTS = [
    enrolment("u1", 4, completed_at=1598363154150),
    enrolment("u2", 1),
    enrolment("u3", 2, active=False),
]
USERS = {
    "u1": {
        "firstname": "Harpreet", "lastname": "Kaur", "schoolname": "Govt. School, Moga", "schooludisecode": "03150400101",
    },
    "u2": {"firstname": "Mathew", "lastname": "Pallan", "schoolname": "St. Mary; Kochi"},
    "u3": {"firstname": "Neha", "lastname": "Rawat"},
}  # fmt: skip
TRIED = [
    ("u1", QUIZ, "1", 6.0, "6/10", 1, 10.0),
    ("u1", QUIZ, "2", 7.5, "7.5/10", 2, 10.0),
    ("u1", "do_old", "1", 1.0, "", 1, 1.0),
]


@pytest.mark.parametrize(("text", "csv"), list(examples()))
def test_an_example_makes_the_file_that_the_page_shows(text: str, csv: str) -> None:
    settings = parse_settings(text)
    layout = settings.layout_named(settings.layout)
    batch, facts = Batch("tag", "R1", "org", BATCH, COLLECTION), BatchFacts("Batch", "Course", owned=True)
    nodes = (ColumnNode("nested", "do_2", "N", 1), ColumnNode("assessment", QUIZ, "Quiz"))
    contents = frozenset({QUIZ, *(f"do_{number}" for number in range(4))})
    hierarchy = Hierarchy(COLLECTION, 4, nodes, frozenset(), content_ids=contents)
    inputs = make_inputs(hierarchy, layout)
    rules = CellRules("best", (2,), "id", True, settings.report_timezone)
    report = Report(batch, facts, hierarchy, layout, rules)
    enrolled, _ = make_enrolled_chunk(ENROLMENTS, inputs)
    sources = FactSources(
        users=lambda _: USERS,
        nested=lambda _: NESTED_PROGRESS.empty_table(),
        attempts=lambda _: rows_to_table(TRIED, ATTEMPTS),
        archived_scores=lambda _: ARCHIVED_SCORES.empty_table(),
    )
    chunk, counts = make_facts_chunk(enrolled, Eligibility(owned=True, channel="org"), inputs, sources)
    made = (header(report) + chunk_csv(from_parquet(to_parquet(chunk, counts)), report)).decode()
    assert made.replace("\r\n", "\n") == csv


def test_the_example_of_a_run_with_both_formats_makes_the_files_that_the_page_shows() -> None:
    part = page("docs/how-to/change-the-columns.md").partition("\n## Choose a csv, an Excel workbook, or both\n")[2]
    [conf, names] = re.findall("```(?:json|text)\n(.*?)\n```", part.partition("\n## ")[0], re.DOTALL)
    params = RunParams.of(context(json.loads(conf)))  # type: ignore[arg-type]
    site = Site(parse_settings("{}"), "run")
    assert (params.force, len(params.request_ids)) == (True, 1)
    batch, endings = Batch("tag", "R1", "org", BATCH, COLLECTION), site.output_format(params).endings
    assert [batch.file_name(date(2022, 9, 27), ending) for ending in endings] == names.split()


def test_the_page_names_every_key_that_a_stored_extract_depends_on() -> None:
    [named] = re.findall("These keys decide what `extract` stores: (.*?)\\.", page("docs/reference/columns.md"))
    assert set(re.findall("`(.*?)`", named)) == ExtractInputs.model_fields.keys() - {
        "hierarchy",
        "nested_progress",
        "user_fields",
        "scores_from",  # of the settings, as the next one
        "user_source",
    }


@pytest.mark.parametrize(
    "key", [{"enrolments": "all"}, {"learners": "cached"}, {"removed_contents": "counted"}, {"archived_scores": "blank"},
            {"blank_dates": "kept"}, {"columns": [{"label": "School", "field": "user.schoolname"}]}],
    ids=lambda key: next(iter(key)),
)  # fmt: skip
def test_an_extract_with_another_of_these_keys_is_not_used(key: dict[str, Any]) -> None:
    hierarchy = Hierarchy(COLLECTION, 4, (), frozenset(), content_ids=frozenset())
    before, after = (
        parse_settings(json.dumps({"layouts": {"one": {"like": "standard"} | more}})).layout_named("one") for more in ({}, key)
    )
    assert make_inputs(hierarchy, before) != make_inputs(hierarchy, after)
    assert make_inputs(hierarchy, before) != make_inputs(hierarchy, before, "aggregates")
    assert make_inputs(hierarchy, before) != make_inputs(hierarchy, before, user_source="tables")


@pytest.mark.parametrize("chosen", ["csv", "xlsx", "both", None])
def test_a_run_may_choose_the_format_of_its_files(chosen: str | None) -> None:
    params = RunParams.of(context({"output_format": chosen}))  # type: ignore[arg-type]
    assert params.output_format == chosen


def test_another_format_is_refused_with_those_there_are() -> None:
    from progress_exhaust.errors import SetupError

    with pytest.raises(SetupError, match=r"Param output_format: there is no format 'pdf'\. Choose one of: csv, xlsx, both"):
        RunParams.of(context({"output_format": "pdf"}))  # type: ignore[arg-type]


def context(conf: dict[str, Any]) -> dict[str, Any]:
    return {"dag_run": SimpleNamespace(conf=conf), "params": json.loads(json.dumps(conf))}
