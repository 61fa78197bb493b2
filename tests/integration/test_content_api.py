"""The development content API answers like the platform's: filters, paging, kinds, errors."""

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from dev.content_api import ContentServer, serve

COURSES = [
    {
        "identifier": f"do_{n:03}",
        "name": f"Course {n}",
        "channel": "org-a",
        "status": "Live",
        "objectType": "Collection",
    }
    for n in range(250)
]
OTHERS = [
    {"identifier": "do_retired", "channel": "org-b", "status": "Retired", "objectType": "Content"},
    {
        "identifier": "do_quiz",
        "channel": "org-b",
        "status": "Live",
        "objectType": "QuestionSet",
        "audience": ["Student"],
    },
    {"identifier": "do_bare", "channel": "org-c", "status": "Live", "name": "నమస్తే \ud800"},
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ContentServer]:
    (tmp_path / "hierarchies").mkdir()
    (tmp_path / "contents.json").write_text(json.dumps(COURSES + OTHERS))
    with serve(tmp_path) as running:
        yield running


def search(server: ContentServer, **request: Any) -> dict[str, Any]:
    answer = requests.post(f"{server.url}/api/content/v1/search", json={"request": request}, timeout=5)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["result"]
    return result


def test_without_a_status_only_live_contents_are_found(server: ContentServer) -> None:
    assert search(server, filters={"channel": "org-b"})["count"] == 1
    found = search(server, filters={"channel": "org-b", "status": ["Live", "Retired"]})
    assert [row["identifier"] for row in found["content"]] == ["do_retired"]
    assert [row["identifier"] for row in found["QuestionSet"]] == ["do_quiz"]


def test_a_content_without_a_kind_is_a_content(server: ContentServer) -> None:
    assert search(server, filters={"identifier": "do_bare"})["content"][0]["name"] == "నమస్తే \ud800"


def test_filters_match_any_entry_of_a_list(server: ContentServer) -> None:
    assert search(server, filters={"audience": ["Teacher", "Student"]})["count"] == 1
    assert search(server, filters={"identifier": ["do_001", "do_002", "do_none"]})["count"] == 2
    assert search(server, filters={"identifier": "do_none"}) == {"count": 0}


def test_fields_are_selected(server: ContentServer) -> None:
    [row] = search(server, filters={"identifier": "do_001"}, fields=["channel", "userConsent"])["content"]
    assert row == {"identifier": "do_001", "objectType": "Collection", "channel": "org-a"}


def test_the_limit_is_capped_and_offset_reaches_the_rest(server: ContentServer) -> None:
    seen: list[str] = []
    while len(seen) < 250:
        page = search(server, filters={"channel": "org-a"}, limit=1000, offset=len(seen))
        assert page["count"] == 250
        assert len(page["content"]) == min(100, 250 - len(seen))
        seen += [row["identifier"] for row in page["content"]]
    assert seen == [course["identifier"] for course in COURSES]
    assert server.counts["search"] == 3


@pytest.mark.parametrize(
    "body",
    ["", "no json", "[]", "{}", '{"request": {}}', '{"request": {"filters": {"name": {"!=": "x"}}}}',
     '{"request": {"filters": {}, "limit": -1}}', '{"request": {"filters": {}, "offset": "1"}}'],
)  # fmt: skip
def test_a_bad_body_is_a_400_with_a_message(server: ContentServer, body: str) -> None:
    answer = requests.post(f"{server.url}/v1/search", data=body, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["responseCode"] == "CLIENT_ERROR"
    assert answer.json()["params"]["errmsg"]


def test_hierarchy_is_found_by_its_quoted_id(server: ContentServer) -> None:
    (server.data / "hierarchies" / "do%2F1.json").write_text('{"identifier": "do/1"}')
    answer = requests.get(f"{server.url}/content/v3/hierarchy/do%2F1?mode=edit", timeout=5)
    assert answer.json()["result"] == {"content": {"identifier": "do/1"}}
    missing = requests.get(f"{server.url}/v3/hierarchy/do_none", timeout=5)
    assert missing.status_code == 404
    assert "do_none" in missing.json()["params"]["errmsg"]


def of_org(server: ContentServer, path: str, request: dict[str, Any]) -> requests.Response:
    return requests.post(f"{server.url}/private/v2/org/{path}", json={"request": request}, timeout=5)


def test_the_policy_and_keys_of_an_org(server: ContentServer) -> None:
    policy, url = {"level": "PLAIN_DATASET"}, "https://keys.example.org/org.pem"
    (server.data / "orgs.json").write_text(json.dumps({"org-a": {"policy": policy, "keys": [url]}}))
    asked = {"orgId": "org-a", "key": "dataSecurityPolicy"}
    assert of_org(server, "preferences/read", asked).json()["result"]["response"]["data"] == policy
    [org] = of_org(server, "search", {"filters": {"id": "org-a"}}).json()["result"]["response"]["content"]
    assert (org["id"], org["keys"]) == ("org-a", {"exhaustEncryptionKey": [url]})


def test_an_org_without_a_policy_is_a_404_of_the_api_itself(server: ContentServer) -> None:
    answer = of_org(server, "preferences/read", {"orgId": "org-b", "key": "dataSecurityPolicy"})
    assert (answer.status_code, answer.json()["responseCode"]) == (404, "RESOURCE_NOT_FOUND")
    [org] = of_org(server, "search", {"filters": {"id": "org-b"}}).json()["result"]["response"]["content"]
    assert "keys" not in org


def test_a_public_key_is_served_as_it_is(server: ContentServer) -> None:
    (server.data / "keys").mkdir()
    (server.data / "keys" / "org-a.pem").write_bytes(b"PEM")
    assert requests.get(f"{server.url}/keys/org-a.pem", timeout=5).content == b"PEM"
    for missing in ("org-b.pem", "..", "../orgs.json"):
        assert requests.get(f"{server.url}/keys/{missing}", timeout=5).status_code == 404


def test_new_contents_are_found_without_a_restart(server: ContentServer) -> None:
    new = server.data / "new"
    new.write_text("[]")
    os.utime(new, (1, 1))
    new.rename(server.data / "contents.json")
    assert search(server, filters={}) == {"count": 0}


def test_one_connection_serves_many_requests(server: ContentServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    for method, path in (("POST", "/v1/search"), ("POST", "/nowhere"), ("GET", "/nowhere"), ("GET", "/health")):
        connection.request(method, path, body=b'{"request": {"filters": {}}}' if method == "POST" else None)
        answer = connection.getresponse()
        assert json.loads(answer.read())["params"]
        assert not answer.will_close
    connection.close()
