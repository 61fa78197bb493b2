"""Write what docs/ takes from the code: the tables of settings, and the ledger for psql."""

import re
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "configuration.md"
LEDGER_FILE = PROJECT / "docs" / "grants" / "ledger.sql"
BEGIN, END = "<!-- settings: made by `make docs` -->\n", "<!-- end of settings -->"

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
    earlier = ["| earlier name | name |", "|---|---|", *(f"| `{old}` | `{new}` |" for old, new in NEW_NAMES.items())]
    return (
        f"### Main settings\n\n{_table(main)}\n### Advanced settings\n\n{_table(advanced)}\n### Earlier names\n\n"
        "An earlier name still works. The log of each task then has a warning with the new name.\n\n" + "\n".join(earlier) + "\n"
    )


def _table(fields: dict[str, Any]) -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += (f"| `{name}` | {_default(name, field)} | {field.description} |" for name, field in fields.items())
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """Return the page with new tables between its marks."""
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: BEGIN + settings_tables() + END, page, flags=re.DOTALL)


def ledger_sql() -> str:
    """Return the SQL that creates or upgrades the ledger, for a DAG whose role may not do so."""
    from progress_exhaust.hooks.requests.models import SQL_VALUES
    from progress_exhaust.sql.ledger import CREATE_LEDGER

    head = (
        "-- Create or upgrade the claims and the ledger, as the first task does if its role may. Made by `make docs`.\n"
        "--   psql -1 -v ledger=progress_exhaust -f docs/grants/ledger.sql DATABASE"
    )
    return head + CREATE_LEDGER.format(ledger=':"ledger"', **SQL_VALUES)


def _default(name: str, field: Any) -> str:
    """Return the default of a setting as the table shows it."""
    if field.default_factory is not None:
        return f"`$AIRFLOW_HOME/progress-exhaust/{name.partition('_')[0]}`"  # see settings/model.py
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return "none" if default is None else f"`{str(default).replace(chr(39), chr(34))}`"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
    LEDGER_FILE.write_text(ledger_sql())
