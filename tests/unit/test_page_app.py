"""What a person reads of an address that the page cannot answer. Who may read it is held on Airflow's own servers."""

from collections.abc import Iterator

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from starlette.testclient import TestClient

from progress_exhaust.page.app import STATUSES, Choice, app, templates


@pytest.fixture(scope="module")
def reader() -> Iterator[TestClient]:
    """One who may read the DAG."""
    [allowed] = app.router.dependencies
    app.dependency_overrides |= {allowed.dependency: lambda: None, get_user: lambda: None}
    airflow = FastAPI()
    airflow.mount("/progress-exhaust", app)
    yield TestClient(airflow, headers={"Accept": "text/html"})
    app.dependency_overrides.clear()


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("?page=last", 422, "wrong in page: "),
        ("?page=0", 422, "wrong in page: "),
        ("?batch=%00", 422, "wrong in batch: "),
        (f"request?run_id={'x' * 501}", 422, "wrong in run_id: "),
        ("nowhere", 404, "There is no such page"),
        ("static/page.py", 404, "There is no such page"),
    ],
)
def test_an_address_that_is_wrong_is_answered_in_words(reader: TestClient, address: str, status: int, words: str) -> None:
    answer = reader.get(f"/progress-exhaust/{address}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert words in answer.text and "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert reader.get(f"/progress-exhaust/{address}", headers={"Accept": "application/json"}).json()["detail"]


@pytest.mark.parametrize("may_trigger", [True, False])
def test_a_page_after_the_last_leads_back_and_counts_nothing(may_trigger: bool) -> None:
    values = {"views": [], "total": 0, "pages": 1, "statuses": STATUSES, "tallies": {}, "charts": [], "may_trigger": may_trigger}
    places = {"root": "/progress-exhaust", "airflow": "", "dag": "/dags/progress_exhaust"}
    list_page = templates.get_template("list.html")
    past = list_page.render(**values, **places, chosen=Choice(page=9, batch="b & c"))
    assert '<a href="?batch=b+%26+c">its first page</a>' in past and "0 requests" not in past
    none = list_page.render(**values, **places, chosen=Choice())
    assert "No request is like this." in none and "0 requests, the newest first" in none
    assert past.count('<th scope="col"') == int(past.partition('colspan="')[2].partition('"')[0])
