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
from progress_exhaust.page.app import Search, app, pages
from progress_exhaust.page.rendering import FOLDER, templates
from progress_exhaust.report.request import MAX_FAILURES
from tests.drivers.test_page_views import batch, seen


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
    none = {"views": [], "total": 0, "pages": 1, "statuses": list(RequestStatus), "tallies": {}, "charts": [], "search": Search()}
    rights = {"may_trigger": True, "may_clear": True, "may_edit": True}
    details = {"timeline": [], "causes": [], "retried": {}, "reruns": [], "may_be_cancelled": False}
    return templates.get_template(template).render(places | none | rights | details | values)


@pytest.mark.parametrize("may_trigger", [True, False])
def test_page_after_the_last_links_to_the_first(may_trigger: bool) -> None:
    past = shown("list.html", may_trigger=may_trigger, search=Search(page=9, batch="b & c"))
    assert '<a href="?batch=b+%26+c">the first page</a>' in past and "0 requests" not in past
    none = shown("list.html", may_trigger=may_trigger)
    assert "No request matches." in none and "0 requests, the newest first" in none
    assert past.count('<th scope="col"') == int(past.partition('colspan="')[2].partition('"')[0])


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
        (shown("list.html", views=same_id), 8),
        (shown("request.html", view=seen(*batches, status="FAILED")), 15),
    ):
        live = page.partition("<div id=")[2].partition("</main>")[0]
        found = [re.search(r' id="([^"]+)"', tag) for tag in re.findall(r"<(?:a|button|summary)\b[^>]*>", live)]
        assert len({one and one[1] for one in found} - {None}) == len(found) == number
