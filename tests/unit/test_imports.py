"""Who may import whom: the rooms of the package. Imports for type checkers alone do not count."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "plugins" / "progress_exhaust"
FRAMES = {"numpy", "pandas", "pyarrow"}
ZIPS = {"cryptography", "isal", "stream_zip"}
DRIVERS = {"cassandra", "psycopg", "psycopg2", "redis", "requests"}
OURS = "progress_exhaust"
API_BASE = f"{OURS}.hooks.sunbird_api"  # what the hooks of Sunbird's APIs have in common
# By room: what else than the standard library it may import.
RULES: dict[str, set[str]] = {
    "report": {*FRAMES, *ZIPS, "pydantic", "xlsxwriter", f"{OURS}.errors", f"{OURS}.report"},
    "hooks": {
        "airflow",
        *DRIVERS,
        API_BASE,
        f"{OURS}.compat",
        f"{OURS}.errors",
        # Each from its own modules only, as another test checks.
        f"{OURS}.hooks.cassandra",
        f"{OURS}.hooks.report_store",
        f"{OURS}.hooks.requests",
        f"{OURS}.metrics",
        f"{OURS}.report",
        f"{OURS}.sql",
    },
    "staging": {
        "pydantic",
        f"{OURS}.errors",
        f"{OURS}.hooks.report_store",
        f"{OURS}.report",
        f"{OURS}.staging",
    },
    "stages": {
        "airflow",
        f"{OURS}.compat",
        f"{OURS}.errors",
        f"{OURS}.hooks",
        f"{OURS}.metrics",
        f"{OURS}.names",
        f"{OURS}.operators.links",
        f"{OURS}.report",
        f"{OURS}.settings",
        f"{OURS}.stages",
        f"{OURS}.staging",
    },
    "extract": {
        "airflow",
        *FRAMES,
        "pydantic",
        f"{OURS}.errors",
        f"{OURS}.extract",
        f"{OURS}.hooks",
        f"{OURS}.report",
        f"{OURS}.stages",
        f"{OURS}.staging",
    },
    "compat.py": {"airflow", "botocore", "fsspec", "sqlalchemy", *DRIVERS},
    "sql": set(),
    "operators": {
        "airflow",
        "pydantic",
        f"{OURS}.compat",
        f"{OURS}.errors",
        f"{OURS}.extract",
        f"{OURS}.hooks",
        f"{OURS}.metrics",
        f"{OURS}.names",
        f"{OURS}.operators",
        f"{OURS}.report",
        f"{OURS}.settings",
        f"{OURS}.stages",
        f"{OURS}.staging",
    },
    "sensors": {"airflow", f"{OURS}.metrics", f"{OURS}.stages"},
    "metrics.py": {f"{OURS}.compat", f"{OURS}.hooks.requests.models"},
    "command.py": {
        "airflow",
        f"{OURS}.errors",
        f"{OURS}.hooks.job_requests",
        f"{OURS}.hooks.request_status",
        f"{OURS}.page.views",
        f"{OURS}.report.request",
        f"{OURS}.settings",
    },
    "dags": {"airflow", f"{OURS}.operators", f"{OURS}.sensors"},
    "page": {
        "airflow",
        "fastapi",
        "jinja2",
        "pydantic",
        f"{OURS}.compat",
        f"{OURS}.errors",
        f"{OURS}.hooks.report_store",
        f"{OURS}.hooks.request_status",
        f"{OURS}.names",
        f"{OURS}.page",
        f"{OURS}.report.left_out",
        f"{OURS}.report.request",
        f"{OURS}.settings",
    },
    "plugin.py": {"airflow", f"{OURS}.operators.links", f"{OURS}.page"},
    "": {"pydantic", f"{OURS}.errors", f"{OURS}.report.layout"},  # settings.py and errors.py; a layout is light
}
FILES = [*sorted(PACKAGE.rglob("*.py")), *sorted((PROJECT / "dags").glob("*.py"))]


def imports(source: str) -> Iterator[str]:
    """Yield the modules that a file imports, at its top or inside a function."""
    tree = ast.parse(source)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (f"{module}.{name.name}" if module == OURS else module for name in node.names)


def violations(room: str, source: str) -> list[str]:
    allowed = RULES[room]
    return [
        module
        for module in imports(source)
        if module.partition(".")[0] not in sys.stdlib_module_names
        and not any(module == rule or module.startswith(f"{rule}.") for rule in allowed)
    ]


def room_of(file: Path) -> str:
    if file.parent.name == "dags":
        return "dags"
    if file.name in RULES:
        return file.name
    return "" if file.parent == PACKAGE else file.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_each_file_keeps_to_its_room(file: Path) -> None:
    assert violations(room_of(file), file.read_text()) == []


FORMER_NAMES = ("job_requests.py", "request_status.py")


@pytest.mark.parametrize("file", sorted((PACKAGE / "hooks").rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_hook_knows_one_driver_and_no_other_hook(file: Path) -> None:
    found = list(imports(file.read_text()))
    assert len({module.partition(".")[0] for module in found} & DRIVERS) <= 1
    folder = "requests" if file.name in FORMER_NAMES else file.relative_to(PACKAGE / "hooks").parent.as_posix()
    others = [module for module in found if module.startswith(f"{OURS}.hooks") and module != API_BASE]
    assert [module for module in others if not module.startswith(f"{OURS}.hooks.{folder}.")] == []


@pytest.mark.parametrize("name", ["progress_exhaust.hooks.requests.models", "progress_exhaust.report.request"])
def test_the_models_of_the_requests_need_no_driver(name: str) -> None:
    code = f"import sys, {name}; sys.exit(bool({{'airflow', *{sorted(DRIVERS)}}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT / "plugins", check=False).returncode == 0


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("report", "import airflow"),
        ("report", "def f():\n    import psycopg2"),
        ("report", "from progress_exhaust.hooks.user_cache import UserCacheHook"),
        ("hooks", "from progress_exhaust.stages.site import Site"),
        ("operators", "import redis"),
        ("page", "import psycopg"),
        ("page", "from progress_exhaust.hooks.job_requests import RequestsHook"),
        ("dags", "from progress_exhaust.hooks.user_cache import UserCacheHook"),
    ],
)
def test_a_breach_is_seen(room: str, source: str) -> None:
    assert violations(room, source) != []


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_has_the_name_of_a_package(file: Path) -> None:
    """Airflow's plugin loader imports files below plugins/ by their bare names: none may hide somebody else's."""
    if file.stem != "__init__":
        found = importlib.util.find_spec(file.stem)
        # Its own name is that of a file which the loader has imported in this process.
        assert found is None or found.origin == str(file)
