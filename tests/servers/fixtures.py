"""Airflow's own servers, and the services around them: one start for all of these tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.servers.browser import chromium, log_in
from tests.servers.gate import Gate
from tests.servers.site import Site
from tests.servers.start_up import started_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give a site with the sample world, without its requests."""
    with started_site(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture(scope="session")
def gate(site: Site) -> Gate:
    return Gate(site)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def admin_browser(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    """The browser of a user who may use the buttons."""
    context = log_in(browser, site, "admin")
    yield context
    context.close()
