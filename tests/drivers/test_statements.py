"""Every statement comes from sql/, with its values bound and its names from validated settings; nothing else reaches a server."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.cassandra.inspection import quoted_name
from progress_exhaust.hooks.requests.models import SQL_VALUES
from progress_exhaust.settings import Settings, parse_settings
from progress_exhaust.stages.site_setup import Site

PACKAGE = Path(__file__).resolve().parents[2] / "plugins" / "progress_exhaust"
FILES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
# The files of one system's hook are read together: one file gives a statement, and another one sends it.
TOGETHER: dict[str, str] = {}
for file_name, text_of_file in FILES.items():
    folder = file_name.rpartition("/")[0]
    group = folder if folder.startswith("hooks/") else file_name
    TOGETHER[group] = TOGETHER.get(group, "") + text_of_file
# sql/rights.py has no statement of its own: it explains those of the other files.
NO_STATEMENTS = {"sql/__init__.py", "sql/rights.py"}
STATEMENTS = {name: text for name, text in FILES.items() if name.startswith("sql/") and name not in NO_STATEMENTS}

# What sends a statement, of the drivers' or of Airflow's hooks, however it is called.
SHORTEN = ("without_columns", "with_whole_maps")  # they remove parts of a statement, and add nothing
FILL = "with_columns"  # it puts in columns, which columns_of takes from constants (tests/unit/test_user_tables.py)
# What `init-requests` prints and sends: its parts are of sql/, and its schema is that of a validated setting.
PRINTED = "transaction.execute_script(statements)"
SENDS = {
    "bulk_dump", "bulk_load", "copy", "copy_expert", "execute", "execute_async", "executemany", "get_df", "get_first",
    "get_pandas_df", "get_records", "insert_rows", "mogrify", "prepare", "record_exists", "stream", "table_exists",
    # Our own, of a Transaction.
    "execute_many", "execute_script", "execute_without_limit", "fetch_all", "fetch_dicts", "fetch_value",
}  # fmt: skip
# What may stand in the braces of a statement: a setting's name, which the setting's pattern has passed.
PLACES = {
    "job_request": "job_request_table",
    "ledger": "ledger_schema",
    "enrolments": "enrolments_table",
    "courses": "courses_keyspace",
    "hierarchies": "hierarchy_table",
    "relations": "hierarchy_table",
    "users": "users_keyspace",
    "schema": "job_request_table",
}
# What else may stand there: a name of the login, which this function quotes.
QUOTED = {"role": "quoted_name"}
HOSTILE = [
    "x; DROP TABLE job_request", 'x"', "x'", "x--", "x/*", "x y", " x", "x ", "x\n", "\nx", "x\x00", "x\u00a0y", "x\u2028",
    "таблица", "ｘ", "x\u0301", "x`", "x$", "x%", "x{ledger}", "x{}", "x(", "x)", "1x", "", "x.", ".x", "a.b.c", "a..b", "x\\",
    "x,y", "x?", "x=1", "x\t", "x\u202e", "x²",
]  # fmt: skip


class Module:
    """A file's calls, and what each of their arguments was made from."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.around = {child: parent for parent in ast.walk(self.tree) for child in ast.iter_child_nodes(parent)}
        self._asked: set[tuple[str, str]] = set()  # parameters, by function, that are looked into: one may call itself
        self.sources = set()  # the names under which the file knows modules of sql/
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module == "progress_exhaust.sql":
                self.sources |= {name.asname or name.name for name in node.names}

    def calls(self, *names: str) -> Iterator[ast.Call]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                if name in names:
                    yield node

    def sent(self) -> Iterator[ast.Call]:
        """Yield what sends a statement: a call with arguments, and not an operator's own execute(context)."""
        for call in self.calls(*SENDS):
            context = len(call.args) == 1 and isinstance(call.args[0], ast.Name) and call.args[0].id == "context"
            if (call.args or call.keywords) and not context:
                yield call

    def comes_from_sql(self, node: ast.expr) -> bool:
        """Return whether a statement is one of sql/, with nothing but validated names put in."""
        if isinstance(node, ast.Subscript):
            return self.comes_from_sql(node.value)
        if isinstance(node, ast.Attribute) and node.attr == "query_string" and isinstance(node.value, ast.Name):
            return self._parameter_comes_from_sql(node.value)  # of a statement that was prepared
        if isinstance(node, ast.Attribute):
            return isinstance(node.value, ast.Name) and node.value.id in self.sources
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            named = all(is_name_or_constant(keyword) for keyword in node.keywords)
            return named and not node.args and self.comes_from_sql(node.func.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (*SHORTEN, FILL):
            return self.comes_from_sql(node.args[0])
        return isinstance(node, ast.Name) and self._parameter_comes_from_sql(node)

    def _parameter_comes_from_sql(self, name: ast.Name) -> bool:
        """A parameter is what every caller in the file gives; one that is bound already has a type that says so."""
        function = self.around[name]
        while not isinstance(function, ast.FunctionDef):
            if function not in self.around:
                return False
            function = self.around[function]
        annotations = {argument.arg: ast.unparse(argument.annotation or ast.Constant(None)) for argument in function.args.args}
        loops = {
            loop.target.id: loop.iter.id
            for loop in ast.walk(function)
            if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and isinstance(loop.iter, ast.Name)
        }
        source = loops.get(name.id, name.id)
        if source not in annotations or any(isinstance(one, ast.Assign) and written(one) == source for one in ast.walk(function)):
            return False
        if any(kind in annotations[source] for kind in ("BoundStatement", "PreparedStatement")):
            return True
        if (function.name, source) in self._asked:
            return True
        if function.name in SENDS and place_of(source, annotations) == 0:
            return True  # each call of it, in any file, is checked by itself
        self._asked.add((function.name, source))
        place = place_of(source, annotations)
        callers = [call for call in self.calls(function.name) if self.around.get(call) is not function]
        return bool(callers) and all(len(call.args) > place and self.comes_from_sql(call.args[place]) for call in callers)


def place_of(parameter: str, annotations: dict[str, str]) -> int:
    """Return the place of an argument in a call."""
    return list(annotations).index(parameter) - ("self" in annotations)


def is_name_or_constant(keyword: ast.keyword) -> bool:
    """Tell whether a statement gets a name from the settings here, or all the constants of the models."""
    if keyword.arg is None:
        return ast.unparse(keyword.value) == "SQL_VALUES"
    if keyword.arg in QUOTED:
        return isinstance(keyword.value, ast.Call) and ast.unparse(keyword.value.func) == QUOTED[keyword.arg]
    return keyword.arg in PLACES and is_own(keyword.value)


def is_own(node: ast.expr) -> bool:
    """Return whether a value is an attribute of the hook itself, which its constructor made of a setting."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def written(node: ast.Assign) -> str:
    return ast.unparse(node.targets[0])


def loose(source: str) -> list[str]:
    module = Module(source)
    found = []
    for call in module.sent():
        redis_pipeline = ast.unparse(call.func) == "pipeline.execute"
        sqlalchemys = bool(call.args) and ast.unparse(call.args[0]).startswith("select(")  # which binds what it is given
        if not redis_pipeline and not sqlalchemys and not (call.args and module.comes_from_sql(call.args[0])):
            found.append(ast.unparse(call))
    return found


@pytest.mark.parametrize("name", TOGETHER)
def test_only_statements_of_sql_are_sent(name: str) -> None:
    assert loose(TOGETHER[name]) == ([PRINTED] if name == "hooks/requests" else [])


def test_the_statements_that_are_sent_were_found() -> None:
    found = {name: len(list(Module(text).sent())) for name, text in TOGETHER.items()}
    assert found["hooks/requests"] > 45
    assert found["hooks/cassandra"] == 7


@pytest.mark.parametrize(
    "body",
    [
        'cursor.execute("SELECT 1")',
        'cursor.execute(f"SELECT {name}")',
        'cursor.execute(sql.HOLDER + " OR true")',
        "cursor.execute(sql.HOLDER % name)",
        "cursor.execute(sql.HOLDER.format(ledger=name))",
        "cursor.execute(sql.HOLDER.format(self._ledger))",
        "cursor.execute(sql.HOLDER.format(tag=self._ledger))",
        "cursor.execute(sql.HOLDER.format(**name))",
        "cursor.execute(sql.HOLDER.format(role=name))",
        "transaction.fetch_all(name)",
        "cursor.execute(sql.HOLDER.replace('x', name))",
        "cursor.execute(other.HOLDER)",
        "cursor.execute(name)",
        "name = 'SELECT 1'\n  cursor.execute(name)",
        "cursor.executemany(name, [])",
        "self.get_records('SELECT 1')",
        "self._session.execute_async(name)",
        "self._session.prepare('SELECT ' + name)",
        "cursor.execute(query=name)",
    ],
)
def test_a_statement_from_elsewhere_would_be_found(body: str) -> None:
    source = f"from progress_exhaust.sql import locks as sql\ndef f(self, cursor, name):\n  {body}\n"
    assert loose(source)
    assert loose(source + "f(hook, cursor, 'SELECT 1')\n")


def test_a_parameter_is_what_its_callers_give() -> None:
    source = "from progress_exhaust.sql import locks as sql\ndef run(cursor, statement):\n  cursor.execute(statement)\n"
    assert loose(source + "run(cursor, sql.HOLDER)\n") == []
    assert loose(source + "run(cursor, sql.HOLDER)\nrun(cursor, 'SELECT 1')\n")


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_put_together_from_constants_alone(name: str) -> None:
    tree = ast.parse(STATEMENTS[name])
    parts = (ast.Module, ast.Assign, ast.Expr, ast.Name, ast.Constant, ast.BinOp, ast.Dict, ast.expr_context, ast.operator)
    plain = (
        *parts,
        ast.JoinedStr,
        ast.FormattedValue,
        ast.Set,
        ast.Call,
        ast.Attribute,
        ast.GeneratorExp,
        ast.comprehension,
        ast.Tuple,
    )
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {str(node.module).rpartition(".")[0] for node in imports} <= {"progress_exhaust.sql"}
    imported = {alias for node in imports for alias in node.names}
    assert [
        ast.unparse(node) for node in ast.walk(tree) if not isinstance(node, plain) and node not in {*imports, *imported}
    ] == []
    own = {written(node) for node in ast.walk(tree) if isinstance(node, ast.Assign)} | {alias.name for alias in imported}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} <= own | {"frozenset"}
    assert {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} <= {"replace", "join", "items"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_values_of_a_statement_are_bound(name: str) -> None:
    module = vars(importlib.import_module("progress_exhaust." + name.removesuffix(".py").replace("/", ".")))
    texts = [one for value in module.values() for one in (value.values() if isinstance(value, dict) else [value])]
    texts = [
        text for text in texts if isinstance(text, str) and re.search(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|LIST)\b", text)
    ]
    assert len(texts) >= 4
    for text in texts:
        # A constant of the models; a name that does not exist there raises AttributeError.
        bare = re.sub(
            r"\{(?:status|stage|state|outcome)\.\w+\}|\{(?:job_id|deferred_bytes|max_failures)\}",
            lambda one: one[0].format(**SQL_VALUES),
            text,
        )
        bare = bare.replace("{{", "").replace("}}", "")
        assert set(re.findall(r"\{([^}]*)\}", bare)) <= {*PLACES, *QUOTED}
        assert not re.search(r"%(?!\(\w+\)s)", bare), text
        quoted = re.findall("'([^']*)'", re.sub("--.*", "", bare))
        assert not [one for one in quoted if re.search(r"[{?]|%\(", one)], "what is inside a quoted text is not bound"


@pytest.mark.parametrize("hostile", [*HOSTILE, '"', '""', '" OR "'])
def test_a_quoted_name_does_not_end_before_its_end(hostile: str) -> None:
    assert re.fullmatch('"([^"]|"")*"', quoted_name(hostile))
    assert quoted_name(hostile)[1:-1].replace('""', '"') == hostile


@pytest.mark.parametrize("setting", sorted(set(PLACES.values())))
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_name_that_is_not_a_plain_identifier_is_refused(setting: str, hostile: str) -> None:
    for value in (hostile, f"keyspace.{hostile}", f"{hostile}.table"):
        with pytest.raises(SetupError, match=setting):
            parse_settings(json.dumps({setting: value}))


@pytest.mark.parametrize("setting", sorted(set(PLACES.values())))
def test_a_plain_identifier_is_taken(setting: str) -> None:
    name = "a.Dev_2" if setting in ("enrolments_table", "hierarchy_table") else "Dev_2"
    assert getattr(parse_settings(json.dumps({setting: name})), setting) == name


def test_the_hooks_get_these_names_from_the_settings_alone() -> None:
    names = {name: f"{name}_a.b" if name in ("enrolments_table", "hierarchy_table") else f"{name}_a" for name in PLACES.values()}
    site = Site(Settings(**names), "run")
    requests, tables = vars(site.claims()), vars(site.learner_tables())
    assert requests["_job_request"] == f'"{names["job_request_table"]}"' and requests["_ledger"] == f'"{names["ledger_schema"]}"'
    assert (tables["_enrolments"], tables["_courses"], tables["_hierarchies"]) == (
        names["enrolments_table"], names["courses_keyspace"], names["hierarchy_table"],
    )  # fmt: skip
    hooks = (
        "Claims",
        "Ledger",
        "Locks",
        "Releases",
        "RequestStatusReader",
        "RequestsHook",
        "LearnerTablesHook",
        "RequestStatusHook",
        "hook",
    )
    made = [(name, call) for name, text in FILES.items() for call in Module(text).calls(*hooks)]
    assert (
        sorted(name for name, _ in made)
        == ["cli_requests.py"] * 2 + ["cli_status.py", "page/app.py", "page/changes.py"] + ["stages/site_setup.py"] * 2
    )
    for _, call in made:
        given = {keyword.arg: ast.unparse(keyword.value).rpartition(".")[2] for keyword in call.keywords}
        assert {name: given[name] for name in ("job_request_table", "ledger_schema") if name in given} in (
            {"job_request_table": "job_request_table", "ledger_schema": "ledger_schema"}, {},
        )  # fmt: skip
