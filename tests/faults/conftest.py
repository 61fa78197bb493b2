"""The fixtures of these tests, of tests/integration and tests/servers; as plugins, so that the folders share their servers."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for module in ("tests.integration.fixtures", "tests.servers.fixtures"):
        config.pluginmanager.import_plugin(module)
