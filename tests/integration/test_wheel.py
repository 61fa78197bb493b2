"""The wheel: pip installs the whole package, Airflow finds the plugin, and a DAG bundle of one file has every DAG."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.test_imports import imports

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "plugins" / "progress_exhaust"
TUTORIAL = (PROJECT / "docs/tutorials/existing-airflow.md").read_text()
DAG_FILE = TUTORIAL.partition("```python\n")[2].partition("```")[0]
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
VERSION = METADATA["version"]
DISTRIBUTIONS = packages_distributions()
# They come with Airflow, with its provider for Cassandra, and with the provider of a store.
COMES_WITH_THESE = {
    "fastapi",
    "fsspec",
    "jinja2",
    "sqlalchemy",
    "cassandra-driver",
    "botocore",
    "apache-airflow-providers-common",
}
OF_A_SITE = {"apache-airflow-providers-openlineage"}  # lineage.py imports it if it is installed
OF_EXTRAS = {canonicalize_name(Requirement(one).name) for one in METADATA["optional-dependencies"]["excel"]}
IMPORTED_BY_STREAM_ZIP = {"pycryptodome"}
FIND_PLUGIN = """
from airflow.plugins_manager import _get_plugins
plugins, errors = _get_plugins()
print([str(one.source) for one in plugins if one.name == "progress_exhaust"], errors)
"""
LIST_DAGS = """
import sys
from airflow.dag_processing.dagbag import DagBag
sys.path.append(sys.argv[1])  # as Airflow does for a bundle
bag = DagBag(sys.argv[1])
print(sorted(bag.dags), list(bag.import_errors.values()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), str(PROJECT))
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has the packages of this one, and the wheel."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    [packages] = home.glob("lib/*/site-packages")
    (packages / "base.pth").write_text(sysconfig.get_path("purelib"))
    pip(home / "bin/python", "install", "--no-deps", str(wheel))
    return home / "bin/python"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder with the DAG file of the tutorial."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "progress_exhaust.py").write_text(DAG_FILE)
    return folder


def pip(python: Path | str, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of an Airflow that has no plugins folder of this project."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PROGRESS_", "PYTHONPATH"))}
    return plain | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        **more,
    }


def printed(python: Path, script: str, *arguments: str, env: dict[str, str]) -> str:
    """Run a script; return the last line that it prints."""
    command = [python, "-c", script, *arguments]
    done = subprocess.run(command, env=env, cwd=env["AIRFLOW_HOME"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("progress_exhaust/")}
    files = {path.relative_to(SOURCE.parent).as_posix() for path in SOURCE.rglob("*") if path.is_file()}
    assert names == {name for name in files if "__pycache__" not in name} - {"progress_exhaust/.airflowignore"}


def test_command_and_plugin_are_found_without_the_folders(python: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    command = [python.parent / "progress-exhaust", "--help"]
    assert subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.startswith(
        "usage: progress-exhaust"
    )
    plugin = printed(python, FIND_PLUGIN, env=env)
    assert f"progress-exhaust=={VERSION}: " in plugin and plugin.endswith("] {}")


def test_bundle_of_one_file_has_every_dag(python: Path, bundle: Path, tmp_path: Path) -> None:
    assert (
        printed(python, LIST_DAGS, str(bundle), env=environment(tmp_path))
        == "['progress_exhaust', 'progress_exhaust_check', 'progress_exhaust_retention'] []"
    )


def test_second_copy_in_the_plugins_folder_is_an_import_error(python: Path, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "plugins" / "progress_exhaust"
    shutil.copytree(SOURCE, copy)
    found = printed(python, LIST_DAGS, str(bundle), env=environment(tmp_path))
    assert found.startswith("[] ") and "progress_exhaust is installed more than once" in found
    assert str(copy) in found


def test_wheel_requires_what_the_package_imports() -> None:
    """The versions of requirements.txt, with which all tests run, are in the ranges."""
    required = {canonicalize_name(one.name): one.specifier for one in map(Requirement, METADATA["dependencies"])}
    imported = {name for file in SOURCE.rglob("*.py") for name in distributions_of(file)}
    assert imported - COMES_WITH_THESE - OF_A_SITE - OF_EXTRAS == set(required) - IMPORTED_BY_STREAM_ZIP
    assert [name for name, versions in required.items() if version(name) not in versions] == []


def distributions_of(file: Path) -> Iterator[str]:
    """Yield the distributions that a file imports, without the standard library's modules."""
    for module in imports(file.read_text()):
        top = module.partition(".")[0]
        if module.startswith("airflow.providers."):
            yield "apache-airflow-providers-" + module.split(".")[2].replace("apache", "apache-cassandra")
        elif top == "airflow":
            yield "apache-airflow"
        elif top not in {*sys.stdlib_module_names, "progress_exhaust"}:
            yield canonicalize_name(DISTRIBUTIONS.get(top, [top])[0])
