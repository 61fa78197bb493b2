"""The page in Airflow's UI: who may see it and press, what it shows, and how it is used in a real browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import jwt
import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from progress_exhaust.errors import SetupError, SourceError
from tests.servers.browser import PAGE, frame, token
from tests.servers.site import DAG, Site
from tests.servers.test_reruns import no_room

HOSTILE = "<script>window.hacked = 1</script>\"'><img src=x onerror=window.hacked=1>\u202eevil{{ 7 * 7 }}"


class Http:
    """One user at the page, without a browser."""

    def __init__(self, site: Site, user_token: str | None) -> None:
        self.url = site.airflow.url
        self.headers = {"Authorization": f"Bearer {user_token}"} if user_token else {}

    def get(self, path: str, accept: str = "text/html", **query: Any) -> requests.Response:
        headers = self.headers | {"Accept": accept}
        return requests.get(self.url + path, headers=headers, params=query, timeout=60, allow_redirects=False)

    def page(self, path: str = "/", **query: Any) -> str:
        answer = self.get(PAGE + path, **query)
        assert answer.status_code == 200, answer.text
        return answer.text


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value and not value.startswith("#")]


@pytest.fixture(scope="module")
def admin(site: Site) -> Http:
    return Http(site, token(site, "admin"))


@pytest.fixture(scope="module")
def viewer(site: Site) -> Http:
    return Http(site, token(site, "viewer"))


@pytest.fixture(scope="module")
def made(site: Site) -> tuple[str, str]:
    """A request of two batches that is SUCCESS, and its run."""
    request = site.request(site.batches[1], site.batches[2])
    return request, site.airflow.run(request_ids=[request])


def routes() -> list[str]:
    """Return the path of each route of a page: those without the static files, and those that change something."""
    from progress_exhaust.page.app import pages

    assert all(route.methods == {"GET"} for route in pages.routes), "nothing is changed here"
    return [route.path for route in pages.routes]


# Who may


def test_an_anonymous_user_gets_401_on_each_route(site: Site) -> None:
    anonymous = Http(site, None)
    assert sorted(routes()) == ["/", "/file", "/request"]
    for path in routes():
        for accept in ("text/html", "application/json"):
            answer = anonymous.get(PAGE + path, accept)
            assert answer.status_code == 401, path
            assert "request" not in re.sub("(/|%2f)request", "", answer.text.lower()), "the answer shows nothing of requests"


@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_a_user_without_the_right_to_read_the_dag_gets_403(site: Site, viewer: Http) -> None:
    claims = jwt.decode(viewer.headers["Authorization"].split()[1], options={"verify_signature": False})
    secret = site.environment["AIRFLOW__API_AUTH__JWT_SECRET"]
    roleless = Http(site, jwt.encode(claims | {"role": None}, secret, algorithm="HS512"))
    assert [roleless.get(PAGE + path).status_code for path in routes()] == [403] * 3


def test_a_viewer_sees_and_cannot_press(site: Site, viewer: Http, admin: Http, made: tuple[str, str]) -> None:
    request, run = made
    for path, query in (("/", {"request": request}), ("/request", address(viewer, request))):
        assert request in viewer.page(path, **query)
        assert "data-post" not in viewer.page(path, **query)
        assert "data-post" in admin.page(path, **query)
    assert viewer.get(PAGE + "/file", key=site.key(request, site.batches[1])).status_code == 403
    # Nor by the same calls that the buttons make.
    clear = {"dry_run": False, "dag_run_id": run, "task_ids": [["batch.extract", 0]]}
    for call, body in (("dagRuns", {"logical_date": None}), ("clearTaskInstances", clear)):
        answer = requests.post(f"{viewer.url}{DAG}/{call}", json=body, headers=viewer.headers, timeout=60)
        assert answer.status_code == 403, call


def test_a_folder_gives_no_link_to_a_file(site: Site, admin: Http, made: tuple[str, str]) -> None:
    key = site.key(made[0], site.batches[1])
    assert "is a local folder and has no links" in admin.get(PAGE + "/file", key=key).text
    assert "has no package" in admin.get(PAGE + "/file", key="../airflow-passwords.json").text


def address(http: Http, request_id: str) -> dict[str, str]:
    """Return the query of a request's own page, as the list links to it."""
    [link] = [link for link in Links(http.page(request=request_id)).found if "/request?" in link and request_id in link]
    return dict(pair.split("=", 1) for pair in requests.utils.unquote(link.partition("?")[2]).split("&"))


# What it shows


def test_a_request_and_its_batches(site: Site, viewer: Http, made: tuple[str, str]) -> None:
    request, run = made
    text = viewer.page("/request", **address(viewer, request))
    for index, batch in enumerate((site.batches[1], site.batches[2])):
        result = site.airflow.xcom(run, "batch.mark_complete", index)
        assert batch in text and site.key(request, batch).rpartition("/")[2] in text
        assert f"<dd>{result['counts']['reported']:,}</dd>" in text
    assert "2 of 2" in text and "SUCCESS" in text
    assert site.row(request)["requested_by"] not in text + viewer.page(request=request)
    learners = {row["userid"] for row in site.world.enrolments}
    assert not [user for user in learners if user in text]


def test_search_and_filters(site: Site, viewer: Http, admin: Http, made: tuple[str, str]) -> None:
    request, _ = made
    waiting = site.request("no-such-batch-1")
    try:
        collection = next(row["courseid"] for row in site.world.batches if row["batchid"] == site.batches[1])
        found = {
            (request, True): [
                {"request": request[:12]}, {"batch": site.batches[2]}, {"collection": collection}, {"status": "SUCCESS"},
                {"channel": site.row(request)["requested_channel"]}, {"batch": f"  {site.batches[2]} ", "status": "SUCCESS"},
            ],
            (request, False): [
                {"status": "SUBMITTED"}, {"batch": site.batches[4]}, {"channel": "another"}, {"request": "%"}, {"page": 9000},
            ],
            (waiting, True): [{"batch": "no-such-batch-1"}, {"status": "SUBMITTED"}],  # no run has seen it yet
        }  # fmt: skip
        for (one, there), queries in found.items():
            for query in queries:
                assert (one in viewer.page(**query)) == there, (one, query)
        standalone = site.airflow.run(batch_ids=[site.batches[3]], layout="sunbird-lern-7")
        text = admin.page(request=standalone)
        assert "without a request" in text and "1 of 1" in text
        assert f'{{"batch_ids": ["{site.batches[3]}"], "layout": "sunbird-lern-7"}}' in text, "what its button sends"
        assert viewer.get(f"{PAGE}/request", request_id="no such").status_code == 404
        assert viewer.get(f"{PAGE}/", batch="\0").status_code == 422
    finally:
        site.sql("DELETE FROM job_request WHERE request_id = %s", waiting)


@contextmanager
def hostile_request(site: Site) -> Iterator[None]:
    site.sql(
        "INSERT INTO job_request (tag, request_id, job_id, status, requested_channel, dt_job_submitted, err_message, iteration, "
        "encryption_key, requested_by) VALUES (%s, %s, 'progress-exhaust', 'FAILED', %s, now(), %s, 3, 'key-of-mine', 'asker-1')",
        *[HOSTILE] * 4,
    )
    site.sql(
        "INSERT INTO progress_exhaust.claim (tag, request_id, run_id, outcome, released_at) VALUES (%s, %s, %s, '', now())",
        *[HOSTILE] * 3,
    )
    site.sql(
        "INSERT INTO progress_exhaust.batch_run (tag, request_id, batch_id, run_id, collection_id, channel, stage, state, error, "
        "object_key) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        *[HOSTILE] * 10,
    )
    try:
        yield
    finally:
        for table in ("job_request", "progress_exhaust.claim", "progress_exhaust.batch_run"):
            site.sql(f"DELETE FROM {table} WHERE request_id = %s", HOSTILE)


def test_hostile_text_is_text(site: Site, admin: Http) -> None:
    query = {"tag": HOSTILE, "request_id": HOSTILE}
    with hostile_request(site):
        for text in (admin.page(request="<script>"), admin.page("/request", **query), admin.page(channel=HOSTILE)):
            assert "<script>w" not in text and "<img" not in text and "evil{{ 7 * 7 }}" in text
            assert "key-of-mine" not in text and "asker-1" not in text


def test_page_reports_what_is_missing(site: Site, admin: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sql("ALTER SCHEMA progress_exhaust RENAME TO put_away")
    try:
        answer = admin.get(f"{PAGE}/")
    finally:
        site.sql("ALTER SCHEMA put_away RENAME TO progress_exhaust")
    assert answer.status_code == 503 and "has no ledger yet" in answer.text

    from progress_exhaust.hooks.requests.status import RequestStatusReader
    from progress_exhaust.page.app import _reader
    from progress_exhaust.settings import Settings

    with pytest.raises(SetupError, match="AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"):
        _reader(Settings())
    monkeypatch.setenv("AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS", "postgresql://user:a-secret@127.0.0.1:9/sunbird")
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9 .*does not answer") as caught:
        RequestStatusReader(job_request_table="job_request", ledger_schema="progress_exhaust").tally()
    assert "a-secret" not in str(caught.value)


def test_nothing_comes_from_elsewhere(viewer: Http, made: tuple[str, str]) -> None:
    answer = viewer.get(f"{PAGE}/")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert not re.search(r"<script>|style=|\son\w+=", answer.text)
    assert all(link.startswith(("/", "?")) for link in Links(answer.text).found)


def test_every_link_leads_somewhere(site: Site, admin: Http, made: tuple[str, str]) -> None:
    request, run = made
    lists = admin.page(request=request), admin.page("/request", **address(admin, request)), admin.page()
    links = {link for text in lists for link in Links(text).found}
    batches = [site.batches[1], site.batches[2]]
    tasks = site.airflow.tasks(run)
    seen = set()
    for link in links:
        answer = admin.get(urljoin(f"{PAGE}/", link))
        assert answer.status_code == 200, link
        found = re.fullmatch(r"/dags/progress_exhaust/runs/([^/]+)(?:/tasks/([^/]+)/mapped/(\d+))?", link)
        if found:
            run_id, task, index = (part and requests.utils.unquote(part) for part in found.groups())
            site.airflow.call(f"{DAG}/dagRuns/{run_id}")
            if run_id == run and task:
                assert tasks[task.removeprefix("batch."), int(index)].label.partition(":")[0] in batches
                seen.add((task, int(index)))
        else:
            assert link.startswith((PAGE, "?")) or link in ("/", "/dags/progress_exhaust"), link
    assert len(seen) == 10


# In a browser


def test_hostile_text_is_text_to_a_browser(site: Site, admin_browser: BrowserContext) -> None:
    page = admin_browser.new_page()
    with hostile_request(site):
        page.goto(f"{site.airflow.url}{PAGE}/?request=%3Cscript%3E")
        page.get_by_role("row").nth(1).get_by_role("link").first.click()
        expect(page.locator("h1")).to_contain_text("<script>window.hacked")
    assert page.evaluate("window.hacked") is None
    page.close()


def press(page: Page, name: str, answer: str = "Yes, go on") -> None:
    frame(page).get_by_role("button", name=name).click()
    dialog = frame(page).get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name=answer).click()
    expect(dialog).to_be_hidden()


@pytest.mark.slow  # tests/servers/test_request_page.py has both buttons
def test_a_failed_batch_is_rerun_and_a_request_made_again(site: Site, admin_browser: BrowserContext) -> None:
    good, bad = site.batches[2], site.batches[3]
    request = site.request(good, bad)
    page = admin_browser.new_page()
    with no_room(site, site.key(request, bad)):
        run = site.airflow.start_run(request_ids=[request])
        assert site.airflow.end_of(run) == "failed"
    page.goto(f"{site.airflow.url}/plugin/progress-exhaust{PAGE}/?request={request}")
    expect(frame(page).get_by_role("row").filter(has_text=request)).to_contain_text("could not be made this time")
    frame(page).get_by_role("row").filter(has_text=request).get_by_role("link").first.click()
    broken = frame(page).get_by_role("region", name=f"Batch {bad}")
    expect(broken).to_contain_text("Failed")
    before = site.airflow.tasks(run)
    press(page, "Rerun from package", "Cancel")
    assert site.airflow.tasks(run) == before
    press(page, "Rerun from package")
    expect(frame(page).get_by_role("status")).to_contain_text("The batch runs again, starting with package")
    assert site.airflow.end_of(run) == "success"
    after = site.airflow.tasks(run)
    index = next(index for (stage, index), task in after.items() if stage == "package" and task.label == bad)
    assert after["extract", index] == before["extract", index]
    expect(broken).to_contain_text("Ready")

    press(page, "Make again")
    status = frame(page).get_by_role("status")
    expect(status).to_contain_text("A run has started")
    status.get_by_role("link").click()  # out of the frame, to the run
    page.wait_for_url(re.compile(r"/dags/progress_exhaust/runs/manual__"))
    new_run = requests.utils.unquote(page.url.rpartition("/")[2].partition("?")[0])
    assert site.airflow.end_of(new_run) == "success"
    assert site.sql("SELECT outcome FROM progress_exhaust.claim WHERE run_id = %s", new_run) == [{"outcome": "SUCCESS"}]
    page.close()


def test_focus_and_opened_details_stay_when_a_request_comes_in(
    site: Site, admin_browser: BrowserContext, made: tuple[str, str]
) -> None:
    page = admin_browser.new_page()
    page.goto(f"{site.airflow.url}{PAGE}/")
    button = page.get_by_role("button", name=f"Make again {made[0]}")
    page.get_by_role("row").filter(has_text=made[0]).get_by_text("Actions").click()
    opened = page.locator("#requests details[open]").inner_text()
    button.focus()
    number = page.get_by_role("row").count()
    came = site.request("no-such-batch-2")
    try:
        page.evaluate("refresh()")
        expect(page.get_by_role("row").filter(has_text=came)).to_be_visible()
        assert page.get_by_role("row").count() == number + 1
        expect(button).to_be_focused()
        assert page.locator("#requests details[open]").inner_text() == opened
    finally:
        site.sql("DELETE FROM job_request WHERE request_id = %s", came)
    page.close()


def test_a_stages_link_leads_out_of_the_frame_to_the_batchs_own_task(
    site: Site, admin: Http, admin_browser: BrowserContext, made: tuple[str, str]
) -> None:
    request, _ = made
    batch = site.batches[2]
    page = admin_browser.new_page()
    query = "&".join(f"{name}={requests.utils.quote(value, safe='')}" for name, value in address(admin, request).items())
    page.goto(f"{site.airflow.url}/plugin/progress-exhaust{PAGE}/request?{query}")
    frame(page).get_by_role("region", name=f"Batch {batch}").get_by_role("link", name="extract").click()
    page.wait_for_url(re.compile(r"/tasks/batch.extract/mapped/\d+"))
    expect(page.get_by_text(batch).first).to_be_visible()
    page.close()


def test_the_theme_is_airflows(site: Site, admin_browser: BrowserContext) -> None:
    page = admin_browser.new_page()
    page.goto(f"{site.airflow.url}/plugin/progress-exhaust")
    expect(frame(page).get_by_role("heading", name="Progress exhaust")).to_be_visible()
    for theme in ("dark", "light"):
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        expect(frame(page).locator("html")).to_have_attribute("data-theme", theme)
    page.close()


def test_a_button_and_its_dialog_by_keys_alone(
    site: Site, admin: Http, admin_browser: BrowserContext, made: tuple[str, str]
) -> None:
    request, _ = made
    page = admin_browser.new_page()
    query = "&".join(f"{name}={requests.utils.quote(value, safe='')}" for name, value in address(admin, request).items())
    page.goto(f"{site.airflow.url}{PAGE}/request?{query}")
    button, dialog = page.get_by_role("button", name="Make again"), page.get_by_role("dialog")
    press = page.keyboard.press
    for _ in range(20):
        press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    expect(button).to_be_focused()
    for no in ("Escape", "Enter"):  # its first button is Cancel
        press("Enter")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        press(no)
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()
    status = page.get_by_role("status")
    expect(status).to_be_empty()
    press("Enter")
    press("Tab")
    expect(dialog.get_by_role("button", name="Yes, go on")).to_be_focused()
    press("Enter")
    expect(status).to_contain_text("A run has started")
    assert page.evaluate("document.activeElement.id") == "again"  # the button, or the link to the run
    run = requests.utils.unquote(status.get_by_role("link").get_attribute("href").rpartition("/")[2])
    assert site.airflow.end_of(run) == "success"
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_people_can_use_it(site: Site, admin: Http, admin_browser: BrowserContext, made: tuple[str, str], theme: str) -> None:
    """By keyboard, and by axe-core's rules for screen readers and contrast."""
    request, _ = made
    page = admin_browser.new_page()
    page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    query = "&".join(f"{name}={requests.utils.quote(value, safe='')}" for name, value in address(admin, request).items())
    for path in ("/", f"/request?{query}"):
        page.goto(f"{site.airflow.url}{PAGE}{path}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    page.close()
