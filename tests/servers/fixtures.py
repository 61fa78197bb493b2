"""Airflow's own servers, and the services around them: one start for all of these tests."""

from collections.abc import Iterator

import pytest

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
