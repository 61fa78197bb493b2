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
DRIVERS = {"cassandra", "psycopg", "psycopg2", "redis", "requests"}
OURS = "progress_exhaust"
API_BASE = f"{OURS}.hooks.sunbird_api"  # what the hooks of Sunbird's APIs have in common
# By room: what else than the standard library it may import.
RULES: dict[str, set[str]] = {
    "report": {*FRAMES, "isal", "stream_zip", "pydantic", "xlsxwriter", f"{OURS}.errors", f"{OURS}.report", f"{OURS}.security"},
    "security": {"cryptography", f"{OURS}.errors", f"{OURS}.report.request", f"{OURS}.security"},
    "hooks": {
        "airflow",
        "botocore",
        "fsspec",
        *DRIVERS,
        API_BASE,
        f"{OURS}.errors",
        f"{OURS}.hooks.requests",  # from its own modules alone, as another test checks
        f"{OURS}.metrics",
        f"{OURS}.report",
        f"{OURS}.sql",
    },
    "sql": set(),
    "operators": {
        "airflow",
        f"{OURS}.errors",
        f"{OURS}.hooks",
        f"{OURS}.metrics",
        f"{OURS}.operators",
        f"{OURS}.report",
        f"{OURS}.security",
        f"{OURS}.settings",
    },
    "sensors": {"airflow", f"{OURS}.metrics", f"{OURS}.operators"},
    "metrics.py": {"airflow", f"{OURS}.hooks.requests.models"},
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
        "sqlalchemy",  # what Airflow's API server is made of
        f"{OURS}.errors",
        f"{OURS}.hooks.report_store",
        f"{OURS}.hooks.request_status",
        f"{OURS}.page",
        f"{OURS}.report.excluded",
        f"{OURS}.report.request",
        f"{OURS}.settings",
    },
    "plugin.py": {"airflow", f"{OURS}.operators.links", f"{OURS}.page"},
    # settings.py and errors.py; these modules import no frame, driver or cipher
    "": {"pydantic", f"{OURS}.errors", f"{OURS}.report.layout", f"{OURS}.report.options", f"{OURS}.security.levels"},
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
    own = "" if file.parent.name == "hooks" and file.name not in FORMER_NAMES else f"{OURS}.hooks.requests."
    others = [module for module in found if module.startswith(f"{OURS}.hooks") and module != API_BASE]
    assert [module for module in others if not own or not module.startswith(own)] == []


@pytest.mark.parametrize("name", ["progress_exhaust.hooks.requests.models", "progress_exhaust.report.request"])
def test_the_models_of_the_requests_need_no_driver(name: str) -> None:
    code = f"import sys, {name}; sys.exit(bool({{'airflow', *{sorted(DRIVERS)}}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT / "plugins", check=False).returncode == 0


def test_the_settings_import_no_frame_and_no_cipher() -> None:
    heavy = sorted({"airflow", "cryptography", *FRAMES, *DRIVERS})
    code = f"import sys, progress_exhaust.settings; sys.exit(bool({{*{heavy}}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT / "plugins", check=False).returncode == 0


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("report", "import airflow"),
        ("report", "def f():\n    import psycopg2"),
        ("security", "import airflow"),
        ("security", "import requests"),
        ("security", "from progress_exhaust.hooks.salt import read_salt"),
        ("report", "from progress_exhaust.hooks.user_cache import UserCacheHook"),
        ("hooks", "from progress_exhaust.operators.site_operator import Site"),
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
