"""A call of the page with values that are not valid."""

from types import SimpleNamespace

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from progress_exhaust.page import access
from progress_exhaust.page.app import app


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    async def in_airflow(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app_root_path"] = ""
        await app(scope, receive, send)

    monkeypatch.setattr(access, "is_allowed", lambda *_: True)
    monkeypatch.setitem(app.dependency_overrides, get_user, lambda: SimpleNamespace(get_name=lambda: "engineer"))
    return TestClient(in_airflow)


# FastAPI's own answer to the first three is an error of the server.
@pytest.mark.parametrize("value", ['"\\ud800"', "NaN", "[1e999]", '"\\u0000"', "null", '"' + "x" * 501 + '"'])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_value_that_is_not_valid_is_refused_and_not_repeated(client: TestClient, value: str, accept: str) -> None:
    headers = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", "Accept": accept}
    body = f'{{"tag": {value}, "request_id": "R1"}}'
    answer = client.post("/cancel", content=body, headers=headers)
    assert answer.status_code == 422
    assert "tag: " in answer.text and "xxxxx" not in answer.text
    assert answer.headers["Content-Type"].startswith(accept)


@pytest.mark.parametrize("path", ["/", "/request?tag=T&request_id=R1", "/cancel", "/release"])
def test_without_the_connection_each_route_says_what_to_add(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS", raising=False)
    if path in ("/cancel", "/release"):
        headers = {"Sec-Fetch-Site": "same-origin"}
        answer = client.post(path, json={"tag": "T", "request_id": "R1", "run_id": "run"}, headers=headers)
    else:
        answer = client.get(path)
    assert (answer.status_code, answer.json()["detail"][:85]) == (
        503, "The API server does not have the connection progress_exhaust_requests. Add it under A",
    )  # fmt: skip
