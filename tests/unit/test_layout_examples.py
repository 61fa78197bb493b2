"""The examples of docs/layouts.md make the files that the page shows."""

import json
import re
from collections.abc import Iterator
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
from progress_exhaust.stages.site_setup import RunParams
from tests.cql import cql_list, cql_map

COLLECTION, BATCH, QUIZ = "do_2133", "013300978801321105614", "do_2121589132151005906648"
SECTION = "## Examples"
# Until the section is in docs/layouts.md.
PAGE = """
## Examples

### A csv for Excel in Europe

Where Excel uses a decimal comma, it expects semicolons between the cells:

```json
{
  "layouts": {
    "excel-europe": {
      "columns": [
        {"label": "Name", "field": "user_name"},
        {"label": "School", "field": "user.schoolname"},
        {"label": "Completed on", "field": "completion_date", "format": "dd/MM/yyyy"},
        {"label": "Total", "field": "total_score"}
      ],
      "nested_progress": false,
      "delimiter": ";",
      "decimal_sign": ",",
      "bom": true
    }
  },
  "layout": "excel-europe"
}
```

```csv
Name;School;Completed on;Total;do_2121589132151005906648 - Score
Harpreet Kaur;Govt. School, Moga;25/08/2020;7,5;7,5
Mathew Pallan;"St. Mary; Kochi";;;
```

### Ids that survive a double click in Excel

Excel keeps 15 digits of a number. It rounds longer ids when it opens a csv. `excel_text` puts an apostrophe before each cell
that is not blank, so Excel reads text. Excel shows the apostrophe:

```json
{
  "layouts": {
    "excel-ids": {
      "columns": [
        {"label": "Batch", "field": "batch_id", "format": "excel_text"},
        {"label": "Name", "field": "user_name"},
        {"label": "School code", "field": "user.schooludisecode", "format": "excel_text"}
      ],
      "nested_progress": false,
      "scores": "none"
    }
  },
  "layout": "excel-ids"
}
```

```csv
Batch,Name,School code
'013300978801321105614,Harpreet Kaur,'03150400101
'013300978801321105614,Mathew Pallan,
```

### Inactive enrolments

```json
{
  "layouts": {
    "with-inactive": {
      "columns": [
        {"label": "Name", "field": "user_name"},
        {"label": "Enrolment", "field": "enrolment_status"},
        {"label": "Progress", "field": "progress"}
      ],
      "nested_progress": false,
      "scores": "none",
      "enrolments": "all"
    }
  },
  "layout": "with-inactive"
}
```

```csv
Name,Enrolment,Progress
Harpreet Kaur,active,100
Mathew Pallan,active,25
Neha Rawat,inactive,50
```

### Attempts and maximum score

```json
{
  "layouts": {
    "scores": {
      "columns": [
        {"label": "Name", "field": "user_name"},
        {"label": "Attempts", "field": "attempts"},
        {"label": "Total", "field": "total_score"},
        {"label": "Of", "field": "max_score"}
      ],
      "nested_progress": false,
      "scores": "none"
    }
  },
  "layout": "scores"
}
```

```csv
Name,Attempts,Total,Of
Harpreet Kaur,2,7.5,10
Mathew Pallan,0,,
```
"""


def section() -> str:
    page = (docs.PROJECT / "docs" / "layouts.md").read_text()
    return (page if SECTION in page else PAGE).partition(SECTION)[2].partition("\n## ")[0]


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


@pytest.mark.parametrize("chosen", ["csv", "xlsx", None])
def test_a_run_may_choose_the_format_of_its_files(chosen: str | None) -> None:
    params = RunParams.of(context({"output_format": chosen}))  # type: ignore[arg-type]
    assert params.output_format == chosen


def test_another_format_is_refused_with_those_there_are() -> None:
    from progress_exhaust.errors import SetupError

    with pytest.raises(SetupError, match=r"Param output_format: there is no format 'pdf'\. Choose one of: csv, xlsx"):
        RunParams.of(context({"output_format": "pdf"}))  # type: ignore[arg-type]


def context(conf: dict[str, Any]) -> dict[str, Any]:
    return {"dag_run": SimpleNamespace(conf=conf), "params": json.loads(json.dumps(conf))}
