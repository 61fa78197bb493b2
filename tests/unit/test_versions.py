"""What the docs, the wheel, the code and docker-compose say about versions is the same."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).resolve().parents[2]
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
[PROTOCOL_VERSION] = re.findall(
    r"^PROTOCOL_VERSION = (\d)$", (PROJECT / "plugins/progress_exhaust/hooks/cassandra/cluster.py").read_text(), re.MULTILINE
)
WITH_PROTOCOL_VERSION = [
    *PROJECT.glob("docker-compose*.yaml"),
    *(PROJECT / "README.md", PROJECT / "dev/servers.py", PROJECT / "tests/faults/cluster.py"),
    *(PROJECT / "docs").rglob("*.md"),
    *(PROJECT / "deploy").rglob("*.*"),
]
TABLE = (PROJECT / "docs/reference/versions.md").read_text()
RUN = re.findall(r"^\| Airflow \| ([\d.]+), Python ([\d.]+) \| .* \| (.*) \| [\d-]+ \|$", TABLE, re.MULTILINE)


@pytest.mark.parametrize("file", WITH_PROTOCOL_VERSION, ids=lambda file: str(file.relative_to(PROJECT)))
def test_every_example_has_the_protocol_version_of_the_code(file: Path) -> None:
    named = re.findall(r"protocol_version\W{1,8}(?:to )?(\d)", file.read_text())
    assert set(named) <= {PROTOCOL_VERSION}


def test_the_wheel_takes_the_versions_that_have_passed() -> None:
    [airflow] = [one for one in map(Requirement, METADATA["dependencies"]) if one.name == "apache-airflow"]
    assert [result for *_, result in RUN if not re.fullmatch(r"\d+ passed(, \d+ (skipped|deselected))*", result)] == []
    for minor in range(20):
        ran = any(version.startswith(f"3.{minor}.") for version, _, _ in RUN)
        assert ran == airflow.specifier.contains(f"3.{minor}.9")
        ran = any(python == f"3.{minor}" for _, python, _ in RUN)
        assert ran == SpecifierSet(METADATA["requires-python"]).contains(f"3.{minor}.9")


def test_the_changelog_has_a_part_for_the_version() -> None:
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(METADATA['version'])} - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
