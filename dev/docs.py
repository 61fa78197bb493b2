"""Write what docs/ takes from the code: the marked parts of its pages, and the tables for psql."""

import ast
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
DOCS = PROJECT / "docs"
LEDGER_FILE, JOB_REQUEST_FILE = DOCS / "grants" / "ledger.sql", DOCS / "grants" / "job_request.sql"
HELP_WIDTH = "100"

if __name__ == "__main__":
    sys.path[0] = str(PROJECT / "plugins")


def settings_tables() -> str:
    """Return Markdown: the table of the main settings, that of the advanced ones, and the earlier names."""
    from progress_exhaust.settings import Settings
    from progress_exhaust.settings.field_types import MAIN
    from progress_exhaust.settings.renamed import NEW_NAMES

    fields = Settings.model_fields.items()
    main = {name: field for name, field in fields if field.json_schema_extra == MAIN}
    advanced = {name: field for name, field in fields if name not in main}
    earlier = _table(("earlier name", "name"), ((f"`{old}`", f"`{new}`") for old, new in NEW_NAMES.items()))
    return (
        f"### Main settings\n\n{_fields_table(main)}\n### Advanced settings\n\n{_fields_table(advanced)}\n### Earlier names\n\n"
        f"An earlier name still works. The log of each task then has a warning with the new name.\n\n{earlier}"
    )


def params_table() -> str:
    """Return the Params of a run as the DAG file defines them. The file is not run: Airflow is slow to import."""
    rows = []
    for node in ast.walk(ast.parse((PROJECT / "plugins" / "progress_exhaust" / "dags" / "report.py").read_text())):
        if isinstance(node, ast.Dict):
            for name, value in zip(node.keys, node.values, strict=True):
                if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Param":
                    keywords = {
                        one.arg: ast.literal_eval(one.value) for one in value.keywords if one.arg in ("title", "description")
                    }
                    default = ast.literal_eval(value.args[0])
                    shown = "none" if default is None else f"`{str(default).lower()}`"
                    rows.append((f"`{ast.literal_eval(name or value)}`", keywords["title"], shown, f"{keywords['description']}."))
    return _table(("Param", "in the form", "default", "meaning"), rows)


def layouts_tables() -> str:
    """Return the columns of the built-in layouts, and what they set in addition."""
    from progress_exhaust.report.layout import BUILT_IN, BUILT_IN_VALUES

    text = ""
    for name, layout in BUILT_IN.items():
        rows = [
            (str(number), column.label, f"`{column.field}`", f"`{column.format}`" if column.format else "", column.prefix)
            for number, column in enumerate(layout.columns, 1)
        ]
        text += f"### Layout `{name}`\n\n" + _table(("", "label", "field", "format", "prefix"), rows) + "\n"
        more = [f"`{key}`: `{json.dumps(value)}`" for key, value in BUILT_IN_VALUES[name].items() if key != "columns"]
        text += f"It also sets {', '.join(more)}.\n\n" if more else ""
    return text


def excluded_table() -> str:
    """Return the reasons for excluded learners."""
    from progress_exhaust.report.excluded import EXCLUDED

    return _table(("reason", "learners"), ((f"`{reason}`", text) for reason, text in EXCLUDED.items()))


def make_table() -> str:
    """Return the targets of the Makefile."""
    targets = re.findall(r"^([a-z-]+):.*?## (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    return _table(("command", "meaning"), ((f"`make {target}`", text[0].upper() + text[1:] + ".") for target, text in targets))


def command_help() -> str:
    """Return the help of the command line, and of each of its commands."""
    from progress_exhaust.cli import _parser

    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), HELP_WIDTH
    try:
        parser = _parser()
        [commands] = [action for action in parser._actions if isinstance(action.choices, dict)]
        texts = [parser.format_help(), *(command.format_help() for command in commands.choices.values())]
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return "".join(f"```text\n{text}```\n\n" for text in texts)


def ledger_block() -> str:
    """Return the SQL of the ledger for its page, without the parts that upgrade an older ledger."""
    tables = re.findall(r"^CREATE TABLE .*?^\);\n|^CREATE (?:UNIQUE )?INDEX .*?;\n", ledger_sql(), re.MULTILINE | re.DOTALL)
    return "```text\n" + "\n".join(tables).replace(':"ledger"', "progress_exhaust") + "```\n"


def ledger_sql() -> str:
    """Return the SQL that creates or upgrades the ledger, for a DAG whose role may not do so."""
    from progress_exhaust.hooks.requests.models import SQL_VALUES
    from progress_exhaust.sql.ledger import CREATE_LEDGER

    head = (
        "-- Create or upgrade the claims and the ledger, as the first task does if its role may. Made by `make docs`.\n"
        "--   psql -1 -v ledger=progress_exhaust -f docs/grants/ledger.sql DATABASE"
    )
    return head + CREATE_LEDGER.format(ledger=':"ledger"', **SQL_VALUES)


def job_request_sql() -> str:
    """Return the SQL that creates the table of requests, for psql."""
    from progress_exhaust.sql.job_request import CREATE_JOB_REQUEST

    head = (
        "-- Create the table of requests where the platform has none, as `progress-exhaust init-requests` does. Made by\n"
        "-- `make docs`.\n"
        "--   psql -v schema=public -v requests=job_request -f docs/grants/job_request.sql DATABASE\n"
    )
    return head + CREATE_JOB_REQUEST.format(job_request=':"schema".:"requests"')


# Of each page, the parts that are made from the code.
PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "reference/settings.md": {"settings": settings_tables, "params": params_table},
    "reference/columns.md": {"layouts": layouts_tables, "excluded": excluded_table},
    "reference/commands.md": {"make": make_table, "help": command_help},
    "reference/ledger.md": {"ledger": ledger_block},
}


def with_parts(page: str, text: str) -> str:
    """Return the text of a page with its parts made again."""
    for name, part in PARTS[page].items():
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"{page} does not have the part {name}"
        text = before + begin + part() + end + after
    return text


def _fields_table(fields: Mapping[str, Any]) -> str:
    rows = ((f"`{name}`", _default(name, field), field.description) for name, field in fields.items())
    return _table(("setting", "default", "meaning"), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows).replace("|  |", "| |")
    return f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n{lines}"


def _default(name: str, field: Any) -> str:
    """Return the default of a setting as the table shows it."""
    if field.default_factory is not None:
        return f"`$AIRFLOW_HOME/progress-exhaust/{name.partition('_')[0]}`"  # see settings/model.py
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return "none" if default is None else f"`{str(default).replace(chr(39), chr(34))}`"


if __name__ == "__main__":
    for path in PARTS:
        (DOCS / path).write_text(with_parts(path, (DOCS / path).read_text()))
    LEDGER_FILE.write_text(ledger_sql())
    JOB_REQUEST_FILE.write_text(job_request_sql())
