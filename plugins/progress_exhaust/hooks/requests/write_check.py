"""Find out whether a run may write what it has to, without writing it."""

import re
from collections.abc import Iterator

from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection
from progress_exhaust.sql import claims, ledger, locks

NOT_OF_A_RUN = frozenset({claims.SUBMIT, claims.SUBMIT_WITH_BATCH_NUMBER})  # people submit requests


class WriteCheck(LedgerConnection):
    """The rights of a run on job_request and the ledger."""

    def check_rights(self) -> None:
        """Raise SetupError if this role may not send one of the statements of a run.

        Postgres explains each statement: it checks the rights for it, then plans it, but locks no row and changes nothing.
        """
        with self._transaction() as transaction:
            for statement in statements_of_runs():
                nothing = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement))
                transaction.execute(f"EXPLAIN {statement}", nothing)


def statements_of_runs() -> Iterator[str]:
    """Yield the statements that the tasks of a run send to read and write requests, claims and batches."""
    for module in (claims, ledger, locks):
        for name, statement in vars(module).items():
            if name.isupper() and not name.startswith("_") and is_statement(statement) and statement not in NOT_OF_A_RUN:
                yield statement


def is_statement(value: object) -> bool:
    """Return whether this is one statement; a script, which makes tables, has semicolons."""
    pattern = r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b[^;]*"
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
