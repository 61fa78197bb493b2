"""The docs: what is made from the code is current, commands are tested, links lead somewhere, and sentences are short."""

import re
import tomllib
from pathlib import Path

import pytest

from dev import docs
from progress_exhaust.report.layout import FIELDS, Layout
from tests.messages import explained, raised

PROJECT = docs.PROJECT
DAG_FOLDER = PROJECT / "plugins" / "progress_exhaust" / "dags"
DAG_FILE = (DAG_FOLDER / "report.py").read_text()
DAG_FILES = "".join(file.read_text() for file in DAG_FOLDER.glob("*.py"))
ROOT_PAGES = ("README.md", "CONTRIBUTING.md")
# Pages of docs/ are named by their path in it.
PAGES = {page: (PROJECT / page).read_text() for page in ROOT_PAGES} | {
    page.relative_to(docs.DOCS).as_posix(): page.read_text() for page in sorted(docs.DOCS.rglob("*.md"))
}
KINDS = ("tutorials", "how-to", "reference", "concepts")
# Of each block of commands: the line before it, and what is in it.
BLOCKS = re.compile(r"^([^\n]*)\n *```(?:sh|bash|sql|cql|python)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
COMMAND_LINE = re.compile(r"([A-Z_]+=.*\s)?(airflow|docker|kubectl|make|pip-audit|python|7zz?|unzip)\s", re.DOTALL)
MARK = re.compile(r"<!-- (?:run by ([^:]+?)|not run: .+?) -->")
WITH_COMMANDS = {**PAGES, "dev/README.md": (PROJECT / "dev" / "README.md").read_text()}
TASK_IDS = re.findall(r'(?:task_id=|^    )"([a-z_]+)"(?:\)|,|: [A-Z]\w+Operator)', DAG_FILE, re.MULTILINE)
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
MOST_WORDS = 25


# What is made from the code, or named in it


@pytest.mark.parametrize("page", docs.PARTS)
def test_what_is_made_from_the_code_is_current(page: str) -> None:
    assert docs.with_parts(page, PAGES[page]) == PAGES[page], "run `make docs`"


def test_an_operator_makes_the_same_ledger_as_the_first_task() -> None:
    assert docs.LEDGER_FILE.read_text() == docs.ledger_sql(), "run `make docs`"


def test_an_operator_makes_the_same_table_of_requests_as_the_command() -> None:
    assert docs.JOB_REQUEST_FILE.read_text() == docs.job_request_sql(), "run `make docs`"


def test_every_message_is_explained() -> None:
    """The page must have each message of the code, and no other. `python -m tests.messages` lists the differences."""
    messages = raised()
    assert len(messages) > 100
    assert [f"{place}: {text}" for text, place in messages.items() if text not in explained()] == []
    assert sorted(explained() - messages.keys()) == []


@pytest.mark.parametrize("name", [*FIELDS, *Layout.model_fields])
def test_every_field_and_key_of_a_layout_is_documented(name: str) -> None:
    assert f"`{name}`" in PAGES["reference/columns.md"]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"PROGRESS_EXHAUST_[A-Z_]+", DAG_FILES)) | {"PROGRESS_EXHAUST_DOCS_URL"}))
def test_each_environment_variable_of_the_dag_is_documented(name: str) -> None:
    assert f"| `{name}` |" in PAGES["reference/settings.md"]


@pytest.mark.parametrize("name", ["requests", "cassandra", "users", "content", "org", "salt", "store"])
def test_each_connection_is_documented(name: str) -> None:
    assert f"| `progress_exhaust_{name}` |" in PAGES["reference/settings.md"]
    assert f"`progress_exhaust_{name}`" in PAGES["tutorials/existing-airflow.md"]


@pytest.mark.parametrize("task_id", TASK_IDS)
def test_each_task_is_documented(task_id: str) -> None:
    assert f"| {task_id} |" in PAGES["concepts/request-life.md"]


def test_no_task_was_overlooked() -> None:
    assert len(TASK_IDS) == 9


# Each of the Spark job's settings, and the setting here that replaces it.
MIGRATION = PAGES["how-to/migrate-from-the-spark-job.md"]
MIGRATED = re.findall(r"^\| (.+?) \| (?:`(\w+)`|none) \|", MIGRATION.partition("## Step by step")[0], re.MULTILINE)


def test_each_setting_that_one_migrates_to_exists() -> None:
    assert len(MIGRATED) > 10
    for _, setting in MIGRATED:
        assert not setting or setting == "PROGRESS_EXHAUST_SCHEDULE" or f"| `{setting}` |" in docs.settings_tables()


# Commands


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
    """Return the lines that no test of these files runs. A test names `make` and its target; it reads the rest from the page."""
    texts = [(PROJECT / path).read_text() for path in paths if re.fullmatch(r"tests/.+/test_\w+\.py|\.ci/run", path)]

    def is_run(line: str, text: str) -> bool:
        if re.fullmatch(r"make [a-z-]+", line):
            return bool(re.search(rf'made\("{line}"|^{line}$', text, re.MULTILINE))
        return bool(re.search(rf'["/]{re.escape(page)}"', text))

    lines = [line.partition(" #")[0].rstrip() for line in script.strip().splitlines()]
    return [line for line in lines if not any(is_run(line, text) for text in texts)]


@pytest.mark.parametrize("page", sorted(WITH_COMMANDS))
def test_each_command_is_run_by_a_test_or_says_that_it_is_not(page: str) -> None:
    for line_before, script in commands(page):
        mark = MARK.search(line_before)
        assert mark, f"what runs {script!r}?"
        assert not mark[1] or not_run(page, script, mark[1].split(", ")) == [], line_before


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
    assert not_run("how-to/runbook.md", script, [path]) == left


@pytest.mark.parametrize("page", ["reference/tests.md", "concepts/security-model.md"])
def test_each_test_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"`((?:unit|dag|drivers|integration|servers|stores|faults|golden)/[\w.-]+)`", PAGES[page]))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (PROJECT / "tests" / name).exists()] == []


# Pages and links


def test_every_page_is_of_one_kind_and_in_the_navigation() -> None:
    navigation = re.findall(r": ([\w/-]+\.md)$", (PROJECT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(navigation) == sorted(PAGES.keys() - set(ROOT_PAGES))
    assert [page for page in navigation if not page.startswith(KINDS)] == ["index.md", "course-admins.md"]


def test_every_page_is_linked_from_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w/-]+\.md)", PAGES["index.md"]))
    assert PAGES.keys() - set(ROOT_PAGES) - {"index.md"} <= linked


def folder_of(page: str) -> Path:
    return PROJECT if page in ROOT_PAGES else (docs.DOCS / page).parent


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub and the docs site make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_each_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", PAGES[page]))
    for link in links:
        if re.match("https?:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (folder_of(page) / target).resolve() if target else folder_of(page) / Path(page).name
        assert path.exists(), link
        assert page in ROOT_PAGES or path.is_relative_to(docs.DOCS), f"{link}: the docs site does not have it"
        assert not anchor or anchor in anchors(path.read_text()), link


DOCUMENTED_ADDRESS = re.compile(
    r'docs_page\(\s*["\']([\w/-]+)["\'](?:,\s*["\']([\w-]+)["\'])?\s*\)|docs/((?:[\w-]+/)*[\w-]+)\.md'
)
SOURCES = [*PROJECT.glob("plugins/**/*.py"), *PROJECT.glob("dags/*.py"), PROJECT / "docker-compose.yaml"]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(PROJECT).as_posix())
def test_the_code_names_only_pages_that_exist(file: Path) -> None:
    for page, anchor, named in DOCUMENTED_ADDRESS.findall(file.read_text()):
        path = f"{page or named}.md"
        assert path in PAGES or path == "PAGE.md", path
        assert not anchor or anchor in anchors(PAGES[path]), anchor


# Language


def sentences(text: str) -> list[str]:
    """Return the sentences of a page: of paragraphs, list items and cells of tables; a quoted code counts as one word."""
    text = re.sub(r"<!--.*?-->", "", FENCED.sub("", text), flags=re.DOTALL)
    text = re.sub(r"`[^`]+`", "code", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.))|\|", text)
    return [one.strip() for block in blocks for one in re.split(r"(?<=[.?!:])[\s*_)]+(?=[^\s])", " ".join(block.split()))]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_sentence_is_long(page: str) -> None:
    assert [one for one in sentences(PAGES[page]) if len(re.findall(r"[\w'’…-]+", one)) > MOST_WORDS] == []


def test_how_sentences_are_found() -> None:
    page = "# A b\n\nOne two. Three:\n\n- four `five six`\n  seven\n- eight\n\n| nine | ten. Eleven |\n\n```sh\nnot this\n```\n"
    assert [one for one in sentences(page) if one] == [
        "# A b", "One two.", "Three:", "- four code seven", "- eight", "nine", "ten.", "Eleven",
    ]  # fmt: skip


@pytest.mark.parametrize("page", sorted(PAGES))
def test_times_are_clock_times(page: str) -> None:
    """A reader in India and a cluster in UTC do not have the same night."""
    assert re.findall(r"\bnight(?:s|ly)?\b", PAGES[page]) == []


def test_an_adopter_installs_what_the_package_imports() -> None:
    """For the folders, the tutorial names the packages that the wheel requires."""
    required = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    [block] = (script for _, script in BLOCKS.findall(PAGES["tutorials/existing-airflow.md"]) if "stream-zip" in script)
    named = {re.match(r"[\w-]+", word.strip("'"))[0] for word in block.split()[4:] if re.match(r"'?[a-z]", word)}
    assert named == {re.match(r"[\w-]+", one)[0] for one in required}
