"""Statements that find out whether a run may read and write what it has to, and change nothing.

Postgres explains each statement: it checks the rights for it, then plans it, but locks no row.
"""

import re

from progress_exhaust.sql import claims, endings, ledger, locks, releases

_NOT_OF_A_RUN = frozenset({claims.SUBMIT, claims.SUBMIT_WITH_BATCH_NUMBER})  # people submit requests


def _is_statement(value: object) -> bool:
    """Return whether this is one statement; a script, which makes tables, has semicolons."""
    pattern = r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b[^;]*"
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


# Explain what the tasks of a run send to read and write requests, claims and batches.
EXPLAINED = tuple(
    f"EXPLAIN {statement}"
    for module in (claims, endings, ledger, locks, releases)
    for name, statement in vars(module).items()
    if name.isupper() and not name.startswith("_") and _is_statement(statement) and statement not in _NOT_OF_A_RUN
)
