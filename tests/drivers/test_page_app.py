"""Test the templates, and the messages for addresses that are not valid. Rights are tested on Airflow's own servers."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from starlette.testclient import TestClient

from progress_exhaust.docs_links import ENVIRONMENT as DOCS_URL
from progress_exhaust.hooks.requests.models import RequestStatus
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.page.app import app, pages
from progress_exhaust.page.rendering import FOLDER, templates
from progress_exhaust.page.search import Search, page_numbers
from progress_exhaust.report.request import MAX_FAILURES
from tests.drivers.test_page_views import NOW, batch, seen


@pytest.fixture(scope="module")
def reader() -> Iterator[TestClient]:
    """Return a client whose user may read the DAG."""
    [allowed] = pages.dependencies
    app.dependency_overrides |= {allowed.dependency: lambda: None, get_user: lambda: None}
    airflow = FastAPI()
    airflow.mount("/progress-exhaust", app)
    yield TestClient(airflow, headers={"Accept": "text/html"})
    app.dependency_overrides.clear()


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("?page=last", 422, "not valid. page: "),
        ("?page=0", 422, "not valid. page: "),
        ("?batch=%00", 422, "not valid. batch: "),
        (f"request?run_id={'x' * 501}", 422, "not valid. run_id: "),
        ("nowhere", 404, "There is no such page"),
        ("static/page.py", 404, "There is no such page"),
    ],
)
def test_invalid_address_gives_a_message(reader: TestClient, address: str, status: int, words: str) -> None:
    answer = reader.get(f"/progress-exhaust/{address}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert words in answer.text and "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert reader.get(f"/progress-exhaust/{address}", headers={"Accept": "application/json"}).json()["detail"]


def shown(template: str, **values: Any) -> str:
    """Render a page; the list without any request where none is given."""
    places = {"root": "/progress-exhaust", "airflow": "", "dag": f"/dags/{REPORT_DAG_ID}"}
    none = {"views": [], "total": 0, "pages": 1, "page_links": [1], "statuses": list(RequestStatus), "tallies": {}, "charts": []}
    rights = {"may_trigger": True, "may_clear": True, "may_edit": True}
    details = {"timeline": [], "causes": [], "retried": {}, "reruns": [], "may_be_cancelled": False}
    return templates.get_template(template).render(places | none | {"search": Search()} | rights | details | values)


def test_empty_list_says_what_to_do() -> None:
    past = shown("list.html", search=Search(page=9, batch="b & c"))
    assert '<a href="?batch=b+%26+c">the first page</a>' in past and "0 requests" not in past
    filtered = shown("list.html", search=Search(text="none"))
    assert "No request matches these filters" in filtered and "Clear all filters" in filtered
    for none in (shown("list.html"), shown("list.html", search=Search(sort="org", order="ascending"))):
        assert "There are no requests yet" in none and "progress-exhaust submit" in none and "Clear all filters" not in none


@pytest.mark.parametrize(
    ("query", "mistake"),
    [({"zone": "Mars/Olympus"}, "there is no time zone"), ({"zone": "../../etc/passwd"}, "there is no time zone"),
     ({"since": "30.11.2026"}, "valid date"), ({"until": "0001-01-01"}, "greater than"), ({"sort": "size"}, "'submitted'"),
     ({"order": "up"}, "ascending")],
)  # fmt: skip
def test_invalid_search(query: dict[str, str], mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        Search.model_validate(query)


def test_days_are_those_of_the_zone_of_the_address() -> None:
    chosen = Search.model_validate({"since": "2026-11-30", "until": "2026-11-30", "zone": "Asia/Kolkata"}).filter
    assert chosen.submitted_from == "2026-11-29 18:30:00"
    assert chosen.submitted_before == "2026-11-30 18:30:00"
    assert Search.model_validate({"since": "", "until": ""}).filter == Search().filter


def test_address_of_the_list_names_only_what_is_chosen() -> None:
    search = Search.model_validate({"text": " maths ", "status": "FAILED", "since": "2026-11-30", "zone": "UTC", "page": 3})
    assert search.query() == "text=maths&status=FAILED&since=2026-11-30&zone=UTC&page=3"
    assert search.query(page=1, status="") == "text=maths&since=2026-11-30&zone=UTC"
    assert search.sorted_query("org") == "text=maths&status=FAILED&since=2026-11-30&zone=UTC&sort=org"
    assert Search().sorted_query("submitted") == "order=ascending"
    assert Search(order="ascending").sorted_query("submitted") == ""


def test_page_numbers_leave_gaps() -> None:
    assert page_numbers(1, 1) == [1]
    assert page_numbers(1, 200) == [1, 2, 3, None, 200]
    assert page_numbers(50, 200) == [1, None, 48, 49, 50, 51, 52, None, 200]
    assert page_numbers(9, 3) == [1, None, 3]


def test_row_says_what_a_person_looks_for() -> None:
    made = batch("b1", state="done", collection_name="Maths", batch_name="Group A", counts={"enrolled": 9, "reported": 9})
    page = shown("list.html", views=[seen(made, status="SUCCESS", completed_at=NOW, run_state="success")], total=1)
    for text in (
        "<bdi>Maths</bdi>",
        "Group A",
        'data-copy="R1"',
        'data-copy="b1"',
        ">Ready</span>",
        "1 of 1",
        ">Show the run</a>",
    ):
        assert text in page
    assert ">success</a>" not in page, "the state of the run next to the status of the request"
    assert page.index("<table") < page.index("</main>") and "Times are in <span data-zone>UTC</span>" in page


def test_page_links_to_the_docs_if_they_have_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DOCS_URL, raising=False)
    assert ">Help</a>" not in shown("list.html")
    monkeypatch.setenv(DOCS_URL, "https://docs.example.org/{page}.html")
    assert '<a href="https://docs.example.org/reference/page.html" target="_blank"' in shown("list.html")


def test_make_again_names_the_files_that_it_replaces() -> None:
    one = seen(batch("b1", state="done"), status="SUCCESS")
    for page in (shown("list.html", views=[one]), shown("request.html", view=one)):
        assert "replaces today's files. Older files stay" in page


def test_batches_of_another_program_are_listed() -> None:
    assert "or before the ledger existed: b0, b1." in shown("request.html", view=seen(batch("b2"), processed=("b0", "b1")))
    assert "No run has listed its batches yet." in shown("request.html", view=seen())


@pytest.mark.parametrize("status", ["PROCESSING", "FAILED", "SUCCESS"])
def test_a_duplicate_has_no_count_and_no_bar(status: str) -> None:
    one = seen(processed=("b1",), named=("b1", "b2"), status=status, duplicate_of="R0")
    assert one.running is (status == "PROCESSING")
    for page in (shown("list.html", views=[one]), shown("request.html", view=one)):
        assert "duplicate of request R0, and gets its outcome" in page
        assert not re.search(r"<progress|1 of |Batches done|>Progress<|not listed", page)


def test_file_has_a_note_about_excel() -> None:
    one = seen(batch("b1", state="done", object_key="reports/b1.zip", counts={"csv_instead_of_xlsx": 1}))
    assert "<bdi>b1.zip</bdi><small>a csv, because it has more rows or columns" in shown("request.html", view=one)


def test_templates_do_not_repeat_constants() -> None:
    sources = "".join(file.read_text() for folder in ("templates", "static") for file in (FOLDER / folder).iterdir())
    assert REPORT_DAG_ID not in sources and " of 3" not in sources
    page = shown("request.html", view=seen(failures=1, status="FAILED"))
    assert f"1 of {MAX_FAILURES}" in page and f'data-post="/api/v2/dags/{REPORT_DAG_ID}/dagRuns"' in page
    assert f'data-dag="/dags/{REPORT_DAG_ID}"' in page


def test_each_element_with_focus_has_an_id() -> None:
    counts = {"enrolled": 3, "reported": 2, "excluded.deleted": 1}
    batches = batch("b1", state="failed", stage="pivot"), batch("b2", state="done", counts=counts)
    same_id = [seen(*batches, status="FAILED", tag=tag) for tag in ("tag", '">"&')]
    for page, number in (
        (shown("list.html", views=same_id), 18),
        (shown("request.html", view=seen(*batches, status="FAILED")), 15),
    ):
        live = page.partition("<div id=")[2].partition("</main>")[0]
        found = [re.search(r' id="([^"]+)"', tag) for tag in re.findall(r"<(?:a|button|summary)\b[^>]*>", live)]
        assert len({one and one[1] for one in found} - {None}) == len(found) == number
