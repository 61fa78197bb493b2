"""A real browser before Airflow's servers: Debian's Chromium, driven by Playwright."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, expect, sync_playwright

from dev.machine import ServiceError, install_chromium
from tests.servers.site import PATIENCE_SECONDS, Site

PAGE = "/progress-exhaust"
expect.set_options(timeout=PATIENCE_SECONDS * 1000)


def password(site: Site, user: str) -> str:
    return str(json.loads((site.data / "airflow-passwords.json").read_text())[user])


def token(site: Site, user: str) -> str:
    body = {"username": user, "password": password(site, user)}
    return str(requests.post(f"{site.airflow.url}/auth/token", json=body, timeout=30).json()["access_token"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; skips the test where the machine has none and may not get one."""
    try:
        install_chromium()
    except ServiceError as error:
        pytest.skip(f"the page was not tried in a browser: {error}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        yield browser
        browser.close()


def log_in(browser: Browser, site: Site, user: str) -> BrowserContext:
    """Log a user in as a person does, at Airflow's own form."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    page = context.new_page()
    page.goto(f"{site.airflow.url}/auth/login")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", password(site, user))
    page.press("input[name=password]", "Enter")
    page.wait_for_url(lambda url: "/auth/login" not in url)
    page.close()
    return context


def frame(page: Page) -> FrameLocator:
    """Return the page as it is in Airflow's frame."""
    return page.frame_locator("iframe[title='Progress exhaust']")
