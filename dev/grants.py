"""The rights of docs/grants, as statements that a driver can run."""

import re
from pathlib import Path

GRANTS = Path(__file__).resolve().parent.parent / "docs" / "grants"


def psql(text: str, **names: str) -> str:
    """Return a text of docs/grants as psql runs it, with its variables replaced."""
    names = {"schema": "public", "requests": "job_request", "ledger": "progress_exhaust"} | names
    return re.sub(r':"(\w+)"', lambda found: '"' + names[found[1]] + '"', text)


def cassandra_statements(file: str = "cassandra.cql") -> list[str]:
    """Return the statements of cassandra.cql, or of the file for the tables of users."""
    text = re.sub("--.*", "", (GRANTS / file).read_text())
    return [statement for statement in text.split(";\n") if statement.strip()]
