"""Write what docs/ has from the code: the table of settings, and the ledger for psql."""

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


def settings_table() -> str:
    """Return the Markdown table of every setting: name, default, meaning."""
    from progress_exhaust.settings import Settings

    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name}` | {_shown(name, field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """Return the page with a new table between its marks."""
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: BEGIN + settings_table() + END, page, flags=re.DOTALL)


def ledger_sql() -> str:
    """Return what an operator runs with psql where the DAG's own role may make no schema."""
    from progress_exhaust.sql.job_requests import CREATE_LEDGER

    head = (
        "-- The claims and the ledger, as the first task makes them where its role may: made by `make docs`.\n"
        "--   psql -1 -v ledger=progress_exhaust -f docs/grants/ledger.sql DATABASE"
    )
    return head + CREATE_LEDGER.format(ledger=':"ledger"')


def _shown(name: str, field: Any) -> str:
    if field.default_factory is not None:
        return f"`$AIRFLOW_HOME/progress-exhaust/{'reports' if name == 'container' else name}`"
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return "none" if default is None else f"`{str(default).replace(chr(39), chr(34))}`"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
    LEDGER_FILE.write_text(ledger_sql())
