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
DRIVERS = {"cassandra", "hiredis", "psycopg", "psycopg2", "redis", "requests"}
OURS = "progress_exhaust"
API_BASE = f"{OURS}.hooks.sunbird_api"  # what the hooks of Sunbird's APIs have in common
MODELS = f"{OURS}.hooks.requests.models"  # states and rows; it imports no driver


def ours(*names: str) -> set[str]:
    return {f"{OURS}.{name}" for name in names}


VERSIONS = ours("airflow_names", "compat")  # they hide the differences between versions
SHARED = VERSIONS | ours("docs_links", "errors", "hooks", "metrics", "names", "report", "security", "settings", "staging")
# What else than the standard library and its own folder the files of a folder, or one file, may import.
RULES: dict[str, set[str]] = {
    "report": {*FRAMES, "isal", "stream_zip", "pydantic", "xlsxwriter", *ours("errors", "security")},
    "security": {"cryptography", *ours("errors", "report.request")},
    "compare": {"numpy", "pyarrow", *ours("errors", "reading", "report.layout", "report.text")},
    "erase": {"pyzipper", *SHARED, *ours("reading.report_file", "stages")},
    "reading": {"openpyxl", "pandas", "pyarrow", "pyzipper", *ours("errors", "report", "security")},
    "sql": set(),
    "settings": {"pydantic", *ours("errors", "report.layout", "report.options", "security.levels")},
    "hooks": {"airflow", *DRIVERS, API_BASE, *VERSIONS, *ours("docs_links", "errors", "report", "security", "sql")},
    "staging": {"pydantic", *ours("errors", "hooks", "report")},
    "stages": {"airflow", *SHARED, *ours("links")},
    "extract": {"airflow", "pydantic", *FRAMES, *SHARED, *ours("stages")},
    "checks": {"airflow", *SHARED, *ours("stages")},
    "operators": {"airflow", "pydantic", *SHARED, *ours("checks", "extract", "lineage", "links", "stages")},
    "sensors": {"airflow", *SHARED, *ours("stages")},
    "triggers": {"airflow", *SHARED, *ours("stages")},
    "dags": {"airflow", *ours("errors", "failure_notifier", "links", "names", "operators", "sensors", "triggers")},
    "page": {
        *("airflow", "fastapi", "jinja2", "pydantic"),  # what Airflow's API server is made of
        *(MODELS, f"{OURS}.hooks.report_store"),
        *ours(*(f"hooks.requests.{name}" for name in ("outcomes", "releases", "status"))),
        *VERSIONS,
        *ours("docs_links", "errors", "names", "report.excluded", "report.request", "security.levels", "settings"),
    },
    "cli.py": ours("cli_check", "cli_compare", "cli_erase", "cli_open", "cli_output", "cli_requests", "cli_status", "errors"),
    "cli_airflow.py": {"airflow", *ours("airflow_names", "errors", "names", "settings")},
    "cli_check.py": ours("checks", "cli_airflow", "cli_output", "settings"),
    "cli_compare.py": ours("cli_output", "compare", "docs_links", "errors", "reading", "report.layout"),
    "cli_erase.py": ours("cli_airflow", "cli_output", "erase", "errors", "reading", "report.request", "settings", "stages"),
    "cli_open.py": ours("cli_output", "errors", "reading"),
    "cli_output.py": ours("page.formatting"),
    "cli_requests.py": {
        *(MODELS, *ours(*(f"hooks.requests.{name}" for name in ("claims", "releases", "request_table")))),
        *ours("cli_airflow", "cli_output", "errors", "page.airflow_runs", "report.request", "settings"),
    },
    "cli_status.py": {
        *(MODELS, f"{OURS}.hooks.requests.outcomes", f"{OURS}.hooks.requests.status"),
        *ours("cli_airflow", "cli_output", "page", "report.request", "settings"),
    },
    "airflow_names.py": {"airflow"},
    "compat.py": {"airflow", "botocore", "fsspec", "sqlalchemy", *DRIVERS},
    "failure_notifier.py": {"airflow", MODELS, *VERSIONS, *ours("names", "settings", "stages")},
    "lineage.py": {"airflow", *ours("names", "report.request", "settings", "stages")},
    "links.py": {"airflow", *ours("airflow_names", "docs_links")},
    "metrics.py": {MODELS, *ours("compat")},
    "plugin.py": {"airflow", *ours("links", "page")},
    "__init__.py": ours("reading"),
    "": set(),  # docs_links.py, errors.py and names.py
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
    allowed = RULES[room] | ours(room)
    return [
        module
        for module in imports(source)
        if module.partition(".")[0] not in sys.stdlib_module_names
        and not any(module == rule or module.startswith(f"{rule}.") for rule in allowed)
    ]


def room_of(file: Path) -> str:
    if file.parent.name == "dags":
        return "dags"
    if file.parent == PACKAGE:
        return file.name if file.name in RULES else ""
    return file.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_each_file_keeps_to_its_room(file: Path) -> None:
    assert violations(room_of(file), file.read_text()) == []


@pytest.mark.parametrize(
    "hook", sorted({file.relative_to(PACKAGE / "hooks").parts[0] for file in (PACKAGE / "hooks").rglob("*.py")})
)
def test_a_hook_knows_one_driver_and_no_other_hook(hook: str) -> None:
    files = [PACKAGE / "hooks" / hook] if hook.endswith(".py") else sorted((PACKAGE / "hooks" / hook).glob("*.py"))
    found = {module for file in files for module in imports(file.read_text())}
    assert len({module.partition(".")[0] for module in found} & DRIVERS) <= 1
    own = f"{OURS}.hooks.{hook.removesuffix('.py')}"
    assert [module for module in found if module.startswith(f"{OURS}.hooks") and not module.startswith((own, API_BASE))] == []


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
        ("hooks", "from progress_exhaust.stages.site_setup import Site"),
        ("operators", "import redis"),
        ("page", "import psycopg"),
        ("page", "from progress_exhaust.hooks.requests.claims import Claims"),
        ("dags", "from progress_exhaust.hooks.user_cache import UserCacheHook"),
    ],
)
def test_a_breach_is_seen(room: str, source: str) -> None:
    assert violations(room, source) != []


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_has_the_name_of_a_package(file: Path) -> None:
    """Airflow's plugin loader imports files below plugins/ by their bare names. No file may hide a module of another package."""
    if file.stem != "__init__":
        found = importlib.util.find_spec(file.stem)
        # Its own name is that of a file which the loader has imported in this process.
        assert found is None or found.origin == str(file)
