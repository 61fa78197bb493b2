"""The fixtures of these tests, as a plugin: the folders that use them share their servers."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.integration.fixtures")
