"""Airflow's form to trigger a run, filled in by one who may."""

import pytest
import requests
from playwright.sync_api import BrowserContext, expect

from tests.servers.site import DAG, Site, wait_until

DEFAULTS = {"null": "", "array": "", "string": "", "boolean": False}


@pytest.mark.slow  # a browser that starts a run: a minute
def test_the_form_explains_its_params_refuses_a_wrong_one_and_starts_a_run(site: Site, admin_browser: BrowserContext) -> None:
    request = site.request(site.batches[2])
    params = site.airflow.call(f"{DAG}/details")["params"]
    before = {run["dag_run_id"] for run in site.airflow.call(f"{DAG}/dagRuns?limit=1000")["dag_runs"]}
    page = admin_browser.new_page()
    page.goto(f"{site.airflow.url}/dags/progress_exhaust")
    page.get_by_role("button", name="Trigger").click()
    form = page.get_by_role("dialog")
    for section in ("How", "What to make"):
        form.get_by_role("button", name=section).click()  # closes the other
        shown = form.get_by_role("region")
        here = [one for one in params.values() if one["schema"]["section"] == section]
        assert here
        for param in here:
            field = shown.get_by_role("group").filter(has_text=param["description"])
            expect(field).to_contain_text(param["schema"]["title"])
            assert not param["value"]
            if param["schema"]["type"] == "boolean":
                expect(field.get_by_role("checkbox")).not_to_be_checked()
            else:
                expect(field.get_by_role("textbox").or_(field.get_by_role("combobox"))).to_have_value("")
    expect(form).to_contain_text("one request_id of job_request per line, such as 778A3669531143769B5E8C98D42E1CAD")
    ids = form.get_by_role("group").filter(has_text=params["request_ids"]["description"]).get_by_role("textbox")

    ids.fill("x" * 201)
    start = form.get_by_role("button", name="Trigger", exact=True)
    start.press("Enter")
    expect(form).to_contain_text("Invalid input for param request_ids")
    expect(form).to_contain_text("is too long")

    ids.fill(request)
    start.press("Enter")  # Airflow's message of the refusal may cover it
    expect(form).to_be_hidden()

    def started() -> str | None:
        found = {run["dag_run_id"] for run in site.airflow.call(f"{DAG}/dagRuns?limit=1000")["dag_runs"]} - before
        return found.pop() if found else None

    run = wait_until(started, "the run")
    assert site.airflow.end_of(run) == "success", site.airflow.failures(run)
    link = page.locator(f"a[href*='{requests.utils.quote(run)}']").or_(page.locator(f"a[href*='{run}']")).first
    expect(link).to_be_visible()
    assert site.airflow.call(f"{DAG}/dagRuns/{run}")["conf"]["request_ids"] == [request]
    assert site.row(request)["status"] == "SUCCESS"
