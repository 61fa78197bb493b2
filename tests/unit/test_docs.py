"""What a site can set, and what an engineer sees in the grid, stands in README.md or docs/."""

import re
from pathlib import Path

import pytest

from dev import docs

PROJECT = docs.PROJECT
DAG_FILE = (PROJECT / "dags" / "progress_exhaust.py").read_text()
DAG_FILES = DAG_FILE + (PROJECT / "dags" / "progress_exhaust_retention.py").read_text()
ROOT_PAGES = ("README.md", "CONTRIBUTING.md")
PAGES = {page.name: page.read_text() for page in (*map(PROJECT.joinpath, ROOT_PAGES), *sorted((PROJECT / "docs").glob("*.md")))}
# Of each block of commands: the line before it, and what is in it.
BLOCKS = re.compile(r"^([^\n]*)\n *```(?:sh|bash|sql|cql|python)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
COMMAND_LINE = re.compile(r"([A-Z_]+=.*\s)?(airflow|docker|make|pip-audit|python|7zz?|unzip)\s", re.DOTALL)
MARK = re.compile(r"<!-- (?:run by ([^:]+?)|not run: .+?) -->")
WITH_COMMANDS = {**PAGES, "dev/README.md": (PROJECT / "dev" / "README.md").read_text()}
TASK_IDS = re.findall(r'(?:task_id=|^    )"([a-z_]+)"(?:\)|,|: [A-Z]\w+Operator)', DAG_FILE, re.MULTILINE)
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def test_the_settings_table_is_that_of_the_model() -> None:
    page = PAGES["configuration.md"]
    assert docs.with_table(page) == page, "run `make docs`"


def test_an_operator_makes_the_same_ledger_as_the_first_task() -> None:
    assert docs.LEDGER_FILE.read_text() == docs.ledger_sql(), "run `make docs`"


@pytest.mark.parametrize("name", re.findall(r'^    "(\w+)": Param\(', DAG_FILE, re.MULTILINE))
def test_each_param_is_documented(name: str) -> None:
    assert f"| `{name}` |" in PAGES["configuration.md"]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"PROGRESS_EXHAUST_[A-Z_]+", DAG_FILES))))
def test_each_environment_variable_of_the_dag_is_documented(name: str) -> None:
    assert f"| `{name}` |" in PAGES["configuration.md"]


@pytest.mark.parametrize("name", ["requests", "cassandra", "users", "content", "org", "salt", "store"])
def test_each_connection_is_documented(name: str) -> None:
    assert f"| `progress_exhaust_{name}` |" in PAGES["configuration.md"]
    assert f"progress_exhaust_{name}" in PAGES["README.md"]


@pytest.mark.parametrize("task_id", TASK_IDS)
def test_each_task_stands_in_the_readme(task_id: str) -> None:
    assert task_id in PAGES["README.md"]


def test_no_task_was_overlooked() -> None:
    assert len(TASK_IDS) == 9


# Each of the Spark job's settings, and the setting here that replaces it.
MIGRATED = re.findall(r"^\| (.+?) \| (?:`(\w+)`|none) \|", PAGES["migration.md"].partition("## Step by step")[0], re.MULTILINE)


def test_each_setting_that_one_migrates_to_exists() -> None:
    assert len(MIGRATED) > 10
    for _, setting in MIGRATED:
        assert not setting or setting == "PROGRESS_EXHAUST_SCHEDULE" or f"| `{setting}` |" in docs.settings_tables()


@pytest.mark.parametrize("page", sorted(PAGES))
def test_each_make_command_in_the_docs_exists(page: str) -> None:
    named = set(re.findall(r"(?:^|`|\" )make ([a-z-]+)", PAGES[page], re.MULTILINE))
    assert named <= MAKE_TARGETS


def commands(page: str) -> list[tuple[str, str]]:
    """Return each block of commands, with the line before it, and each command within a line, with the rest of the line.

    The name of a program with only a bare word, such as a make target, is not a command.
    """
    prose = FENCED.sub("", WITH_COMMANDS[page])
    inline = [(rest, words) for words, rest in re.findall(r"`([^`]+)`(?=([^\n]*))", prose) if COMMAND_LINE.match(words)]
    bare = re.compile(r"[a-z][a-z-]*")
    return BLOCKS.findall(WITH_COMMANDS[page]) + [one for one in inline if not all(map(bare.fullmatch, one[1].split()))]


def not_run(page: str, script: str, paths: list[str]) -> list[str]:
    """Return the lines that no test among these files runs: `make` and a target stand in it, all else it reads off the page."""
    texts = [(PROJECT / path).read_text() for path in paths if re.fullmatch(r"tests/.+/test_\w+\.py|\.ci/run", path)]

    def is_run(line: str, text: str) -> bool:
        if re.fullmatch(r"make [a-z-]+", line):
            return bool(re.search(rf'made\("{line}"|^{line}$', text, re.MULTILINE))
        return bool(re.search(rf'["/]{re.escape(page)}"', text))

    lines = [line.partition(" #")[0].rstrip() for line in script.strip().splitlines()]
    return [line for line in lines if not any(is_run(line, text) for text in texts)]


@pytest.mark.parametrize("page", sorted(WITH_COMMANDS))
def test_each_command_is_run_by_a_test_or_says_that_it_is_not(page: str) -> None:
    for beside, script in commands(page):
        mark = MARK.search(beside)
        assert mark, f"what runs {script!r}?"
        assert not mark[1] or not_run(page, script, mark[1].split(", ")) == [], beside


@pytest.mark.parametrize(
    ("path", "script", "left"),
    [
        ("README.md", "make demo\ncall $API", ["make demo", "call $API"]),
        ("tests/servers/start_up.py", "export X=1", ["export X=1"]),
        ("tests/unit/test_text.py", "call $API", ["call $API"]),
        ("tests/servers/test_documented_commands.py", "call $API\nmake status  # all", ["make status"]),
        ("tests/servers/test_make_targets.py", "make status  # all\nmake why BATCH=1\nmake bench", ["make bench"]),
        (".ci/run", "make test\nmake demo", ["make demo"]),
    ],
)
def test_a_mark_names_a_test_that_runs_the_command(path: str, script: str, left: list[str]) -> None:
    assert not_run("runbook.md", script, [path]) == left


@pytest.mark.parametrize("page", sorted(PAGES))
def test_each_link_to_a_file_leads_somewhere(page: str) -> None:
    folder = PROJECT if page in ROOT_PAGES else PROJECT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert Path(folder, target).exists(), target


@pytest.mark.parametrize("page", ["promises.md", "threat-model.md"])
def test_each_test_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"`((?:unit|dag|drivers|integration|servers|stores|faults|golden)/[\w.-]+)`", PAGES[page]))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (PROJECT / "tests" / name).exists()] == []
