"""The page of one request in Airflow: who gets a file, one forced run for two presses, retries, reruns, cancel and release."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.servers.browser import PAGE, password, token
from tests.servers.gate import Gate
from tests.servers.site import DAG, Site, wait_until
from tests.servers.test_reruns import no_room

ELSEWHERE = "b" * 32


def get(site: Site, path: str, user_token: str | None = None, **query: Any) -> requests.Response:
    headers = {"Accept": "text/html"} | ({"Authorization": f"Bearer {user_token}"} if user_token else {})
    return requests.get(site.airflow.url + path, headers=headers, params=query, timeout=60, allow_redirects=False)


def audit_entries(site: Site, event: str) -> list[dict[str, Any]]:
    """Return the entries of Airflow's audit log, as an engineer finds them for the DAG."""
    found = site.airflow.call(f"/api/v2/eventLogs?event={event}&dag_id=progress_exhaust&limit=100")["event_logs"]
    return [{"owner": one["owner"], **json.loads(one["extra"])} for one in found]


def open_request(context: BrowserContext, site: Site, request: str) -> Page:
    page = context.new_page()
    query = "&".join(f"{name}={requests.utils.quote(site.row(request)[name], safe='')}" for name in ("tag", "request_id"))
    page.goto(f"{site.airflow.url}{PAGE}/request?{query}")
    return page


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    page.get_by_role("dialog").get_by_role("button", name="Yes, go on").click()


def test_file_names_its_right_writes_to_the_audit_log_and_login_comes_back(site: Site, browser: Browser) -> None:
    key = site.key("R", site.batches[1])
    for user, words in (("viewer", "needs the right to edit the DAG"), ("admin", "has no package")):
        assert words in get(site, f"{PAGE}/file", token(site, user), key=key).text
    entries = [one for one in audit_entries(site, "progress_exhaust_file") if one["key"] == key]
    assert entries == [{"owner": "admin", "key": key}]

    anonymous = browser.new_context()
    page = anonymous.new_page()
    address = f"{site.airflow.url}{PAGE}/?status=SUCCESS"
    assert page.goto(address).status == 401
    assert page.evaluate("document.styleSheets[0].cssRules.length") > 10  # without a login, the page has its style
    expect(page.get_by_role("alert")).to_have_css("padding", re.compile("^[1-9]"))
    page.get_by_role("link", name="Log in to Airflow").click()
    page.fill("input[name=username]", "viewer")
    page.fill("input[name=password]", password(site, "viewer"))
    page.press("input[name=password]", "Enter")
    page.wait_for_url(address)
    expect(page.get_by_role("heading", name="Progress exhaust")).to_be_visible()
    anonymous.close()


def test_make_again_pressed_twice_starts_one_run(site: Site, gate: Gate, admin_browser: BrowserContext) -> None:
    batch = site.batches[1]
    request = site.request(batch)
    site.airflow.run(request_ids=[request])
    published = site.published(request)
    [row] = site.sql("SELECT sha256, protection_level FROM progress_exhaust.batch_run WHERE request_id = %s", request)
    assert (row["sha256"], row["protection_level"]) == (*published.values(), "PLAIN_DATASET")
    page, other = (open_request(admin_browser, site, request) for _ in range(2))
    expect(page.locator("#files")).to_contain_text(row["sha256"])
    expect(page.locator("ol.timeline")).to_contain_text(
        re.compile(r"Submitted.*Claimed.*Batches listed.*extract.*Published", re.DOTALL)
    )
    runs = site.airflow.call(f"{DAG}/dagRuns")["total_entries"]
    with gate.closed(batch, "fetch_hierarchy", "before"):
        for one in (page, other):
            press(one, "Make again")
        expect(page.get_by_role("status")).to_contain_text("A run has started")
        expect(other.get_by_role("status")).to_contain_text("It is not made twice: a run has started already")
        run = requests.utils.unquote(other.get_by_role("status").get_by_role("link").get_attribute("href").rpartition("/")[2])
        assert site.airflow.call(f"{DAG}/dagRuns")["total_entries"] == runs + 1
        expect(page.get_by_role("button", name="Make again")).to_have_count(0)
    assert site.airflow.end_of(run) == "success"
    expect(page.get_by_role("button", name="Make again")).to_be_enabled()
    for one in (page, other):
        one.close()


def test_a_retry_has_a_time_and_no_button_and_failed_batches_are_rerun_together(
    site: Site, admin_browser: BrowserContext
) -> None:
    bad = [site.batches[2], site.batches[3]]
    request = site.request(*bad)
    with no_room(site, site.key(request, bad[0])), no_room(site, site.key(request, bad[1])):
        run = site.airflow.start_run(request_ids=[request])
        wait_until(lambda: any(task.state == "up_for_retry" for task in site.airflow.tasks(run).values()), "a retry")
        seen = set()

        def page_of_a_retry() -> bool:
            text = get(site, f"{PAGE}/request", token(site, "admin"), tag=site.row(request)["tag"], request_id=request).text
            for section in text.split("<section ")[1:]:
                if "It is tried again" in section:
                    assert "Rerun from" not in section
                    seen.add(bool(re.search(r"It is tried again at\s+<time [^>]*>[\d-]+ \d\d:\d\d UTC", section)))
            return True in seen

        wait_until(page_of_a_retry, "a retry on the page")
        assert site.airflow.end_of(run) == "failed"
        page = open_request(admin_browser, site, request)
        expect(page.locator(".causes li")).to_have_count(1)  # one cause for both
        expect(page.locator(".causes")).to_contain_text("2 batches")
    press(page, "Rerun all failed batches")
    expect(page.get_by_role("status")).to_contain_text("2 batches run again")
    assert site.airflow.end_of(run) == "success"
    assert site.row(request)["status"] == "SUCCESS"
    expect(page.locator("ol.timeline")).to_contain_text("Published")
    assert {hashlib.sha256(site.object(site.key(request, one)).read_bytes()).hexdigest() for one in bad} == {
        row["sha256"] for row in site.sql("SELECT sha256 FROM progress_exhaust.batch_run WHERE request_id = %s", request)
    }
    page.close()


@contextmanager
def no_slots(site: Site) -> Iterator[None]:
    """Let no stage start."""
    headers = {"Authorization": f"Bearer {token(site, 'admin')}"}
    pool = f"{site.airflow.url}/api/v2/pools/progress_exhaust?update_mask=slots"
    slots = site.airflow.call("/api/v2/pools/progress_exhaust")["slots"]
    try:
        requests.patch(
            pool, json={"pool": "progress_exhaust", "slots": 0, "include_deferred": False}, headers=headers, timeout=60
        ).raise_for_status()
        yield
    finally:
        requests.patch(
            pool, json={"pool": "progress_exhaust", "slots": slots, "include_deferred": False}, headers=headers, timeout=60
        ).raise_for_status()


def test_cancel_ends_a_held_request_and_a_waiting_one_for_good(site: Site, admin_browser: BrowserContext) -> None:
    held, waiting = site.request(site.batches[2]), site.request(site.batches[3])
    with no_slots(site):
        run = site.airflow.start_run(request_ids=[held])
        wait_until(lambda: ("fetch_hierarchy", 0) in site.airflow.tasks(run), "the list")
        for user, status in (("viewer", 403), (None, 401)):
            headers = {"Authorization": f"Bearer {token(site, user)}"} if user else {}
            for call in ("cancel", "release"):
                answer = requests.post(f"{site.airflow.url}{PAGE}/{call}", json={}, headers=headers, timeout=60)
                assert (answer.status_code, "right to edit" in answer.text) == (status, status == 403)
        for request in (held, waiting):
            page = open_request(admin_browser, site, request)
            press(page, f"Cancel request {request}")
            expect(page.get_by_role("status")).to_contain_text("The request is cancelled")
            expect(page.locator("ol.timeline")).to_contain_text("Cancelled by a person")
            expect(page.get_by_role("button", name="Cancel request")).to_have_count(0)
            page.close()
    assert site.airflow.end_of(run) == "success"
    assert site.airflow.tasks(run)["fetch_hierarchy", 0].state == "skipped"
    for request in (held, waiting):
        row = site.row(request)
        assert (row["status"], row["iteration"], row["err_message"][:26]) == ("FAILED", 0, "The request was cancelled.")
        assert site.published(request) == {}
    assert site.staging(run) == []
    assert [(one["owner"], one["request_id"]) for one in audit_entries(site, "progress_exhaust_cancel")] == [
        ("admin", held),
        ("admin", waiting),
    ]


def test_release_gives_a_request_of_another_installation_back(site: Site, admin_browser: BrowserContext) -> None:
    request = site.request(site.batches[1])
    site.sql("UPDATE job_request SET status = 'PROCESSING' WHERE request_id = %s", request)
    site.sql(
        "INSERT INTO progress_exhaust.claim (tag, request_id, run_id, installation) VALUES (%s, %s, 'lost', %s)",
        site.row(request)["tag"], request, ELSEWHERE,
    )  # fmt: skip
    page = open_request(admin_browser, site, request)
    expect(page.get_by_role("button", name="Cancel request")).to_have_count(0)
    press(page, "Release claim")
    expect(page.get_by_role("status")).to_contain_text("The claim is released")
    assert site.row(request)["status"] == "SUBMITTED"
    assert audit_entries(site, "progress_exhaust_release")[0]["run_id"] == "lost"
    page.close()
    site.sql("DELETE FROM job_request WHERE request_id = %s", request)


def test_a_rejected_request_says_what_comes_next(site: Site, admin_browser: BrowserContext) -> None:
    request = site.request("0199unknown")
    site.airflow.run(request_ids=[request])
    main = open_request(admin_browser, site, request).locator("main")
    expect(main).to_contain_text("No data found: there is no batch 0199unknown")
    expect(main).to_contain_text("No run tries it again by itself. Do what the error says, then submit the request again.")
    expect(main).not_to_contain_text(re.compile("No run has listed|next run tries|fix the error"))
