"""The list of requests in a real browser: what it counts, how it follows what happens, and how it looks on a phone."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.servers.browser import PAGE, token
from tests.servers.gate import Gate
from tests.servers.site import Site, no_extract, wait_until

READ_BAR = """row => {
  const bar = row.querySelector("progress");
  return bar && [bar.value, bar.nextElementSibling.textContent, bar.getAttribute("aria-valuetext")];
}"""
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def page(admin_browser: BrowserContext) -> Iterator[Page]:
    page = admin_browser.new_page()
    yield page
    page.close()


def row_of(page: Page, request_id: str) -> Locator:
    return page.get_by_role("row").filter(has_text=request_id)


def course_of(site: Site, batch_id: str) -> dict[str, Any]:
    collection = next(row["courseid"] for row in site.world.batches if row["batchid"] == batch_id)
    return next(content for content in site.world.contents if content["identifier"] == collection)


def test_failed_batches_are_not_done(site: Site, page: Page) -> None:
    """A run with `force` makes one of two batches. It is cleared, and makes none: the older file stays, and does not count."""
    first, second = site.batches[1:3]
    request = site.request(first, second)
    row = row_of(page, request)
    with no_extract(site, second):
        run = site.airflow.start_run(request_ids=[request], force=True)
        assert site.airflow.end_of(run) == "failed"
        page.goto(f"{site.airflow.url}{PAGE}/?request={request}")
        expect(row).to_contain_text("1 of 2, 1 failed")
        with no_extract(site, first):
            assert site.airflow.rerun(run) == "failed"
    assert site.row(request)["download_urls"] == [site.key(request, first)]
    page.reload()
    expect(row).to_contain_text("0 of 2, 2 failed")
    error = row.locator(".error")
    assert error.inner_text().count("could not be made this time. The next run tries again") == 1, "one cause, one line"
    assert error.inner_text().startswith("2 batches (") and error.locator("summary").bounding_box()["height"] < 30  # type: ignore[index]
    row.get_by_text("Actions").click()
    expect(row.get_by_role("link", name="Show the run")).to_be_visible()
    assert "success" not in row.inner_text() and "FAILED" not in row.inner_text()
    site.sql("UPDATE job_request SET iteration = 3 WHERE request_id = %s", request)
    page.reload()
    expect(error).to_contain_text("could not be made in three attempts")
    expect(error).not_to_contain_text("tries again")


def test_a_page_of_submitted_requests_follows_their_run_and_filters_find_it(site: Site, page: Page) -> None:
    batch = site.batches[1]
    request = site.request(batch)
    row = row_of(page, request)
    page.goto(f"{site.airflow.url}{PAGE}/?request={request}")
    expect(row).to_contain_text("Waiting")
    expect(row).to_contain_text(batch)
    site.airflow.run(request_ids=[request])
    expect(row).to_contain_text("Ready", timeout=30_000)
    expect(row).to_contain_text("1 of 1")
    # The names are known now. The times are in the zone that the user has chosen in Airflow.
    expect(row.get_by_role("link", name=course_of(site, batch)["name"])).to_be_visible()
    submitted = site.row(request)["dt_job_submitted"].replace(tzinfo=ZoneInfo("UTC"))
    for zone in ("Asia/Kolkata", "America/St_Johns"):
        page.evaluate("zone => localStorage.setItem('timezone', JSON.stringify(zone))", zone)
        page.reload()
        expect(page.get_by_text(f"Times are in {zone}")).to_be_visible()
        expect(row).to_contain_text(f"{submitted.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}")
    page.evaluate("localStorage.removeItem('timezone')")

    # The address of a search can be shared.
    word = course_of(site, batch)["name"].split()[-1]
    other = site.request("no-such-batch-7")
    try:
        page.goto(f"{site.airflow.url}{PAGE}/")
        page.get_by_label("Course, batch, org, request or error").fill(word[: max(3, len(word) - 1)].upper())
        page.get_by_text("More filters").click()
        page.get_by_label("Submitted from").fill(f"{submitted:%Y-%m-%d}")
        page.get_by_role("button", name="Search").click()
        expect(row).to_be_visible()
        expect(row_of(page, other)).to_have_count(0)
        assert re.fullmatch(r"text=[^&]+&since=[\d-]+&zone=[^&]+", page.url.partition("?")[2])
        page.goto(f"{site.airflow.url}{PAGE}/?text=NO-such-Batch-7")
        expect(row_of(page, other)).to_be_visible()
        expect(row).to_have_count(0)
        page.get_by_role("link", name="Submitted").click()
        page.wait_for_url(re.compile(r"text=NO-such-Batch-7&order=ascending$"))
        page.goto(f"{site.airflow.url}{PAGE}/?text=nothing-has-this-name")
        expect(page.get_by_role("heading", name="No request matches these filters")).to_be_visible()
        page.get_by_role("link", name="Clear all filters").last.click()
        expect(row).to_be_visible()
        charts = page.get_by_role("heading", name="The last 30 days")
        assert charts.bounding_box()["y"] > page.locator("#requests").bounding_box()["y"]  # type: ignore[index]
    finally:
        site.sql("DELETE FROM job_request WHERE request_id = %s", other)


@contextmanager
def one_slot(site: Site) -> Iterator[None]:
    """Let one batch run at a time."""
    url, headers = f"{site.airflow.url}/api/v2/pools/progress_exhaust", {"Authorization": f"Bearer {token(site, 'admin')}"}
    slots = requests.get(url, headers=headers, timeout=30).json()["slots"]

    def set_slots(number: int) -> None:
        body = {"name": "progress_exhaust", "slots": number, "include_deferred": False}
        answer = requests.patch(url, headers=headers, json=body, timeout=30)
        assert answer.ok, answer.text

    set_slots(1)
    try:
        yield
    finally:
        set_slots(slots)


def test_the_bar_and_its_text_have_the_same_number(site: Site, gate: Gate, page: Page) -> None:
    batches = site.batches[1:3]
    request = site.request(*batches)
    row = row_of(page, request)
    bar = row.get_by_role("progressbar")
    page.goto(f"{site.airflow.url}{PAGE}/?request={request}")
    seen: list[tuple[int, str]] = []

    def look() -> str:
        """Return the text of the bar, which has its number; an empty text if there is no bar."""
        found = row.evaluate(READ_BAR)
        if found is None:
            return ""
        value, text, for_screen_readers = found
        assert f" {value} %" in text or (value, text) == (0, "its batches are not listed yet")
        assert text == for_screen_readers
        if not seen or seen[-1] != (value, text):
            seen.append((value, text))
        return str(text)

    with one_slot(site):
        with ExitStack() as gates:
            for batch in batches:
                gates.enter_context(gate.closed(batch, "pivot", "before"))
            run = site.airflow.start_run(request_ids=[request])
            expect(bar).to_be_visible()
            at_pivot = re.compile(r"0 of 2 batches · extracting [48]\d % · 1 waiting for a slot")
            wait_until(lambda: at_pivot.match(look()), "one batch is extracted, and the other one has no slot")
        wait_until(lambda: not look(), "the end of the run")
    assert site.airflow.end_of(run) == "success"
    assert [value for value, _ in seen] == sorted(value for value, _ in seen), seen
    expect(row).to_contain_text("2 of 2")
    expect(bar).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_cards(site: Site, page: Page, theme: str) -> None:
    page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for query in ("", "?text=nothing-has-this-name"):
        page.goto(f"{site.airflow.url}{PAGE}/{query}")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "the page scrolls sideways"
        if not query:
            page.locator(".menu summary").first.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "a menu is cut off"
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
