"""Find out whether a run may write what it has to, without writing it."""

import re
from collections.abc import Iterable

from progress_exhaust.hooks.requests.connection import Transaction
from progress_exhaust.hooks.requests.ledger_tables import LedgerConnection
from progress_exhaust.sql import rights as sql


class WriteCheck(LedgerConnection):
    """The rights of a run on job_request and the ledger."""

    def check_rights(self) -> None:
        """Raise SetupError if this role may not send one of the statements of a run. Nothing is changed."""
        with self._transaction() as transaction:
            _explain(transaction, sql.EXPLAINED)


def _explain(transaction: Transaction, statements: Iterable[str]) -> None:
    for statement in statements:
        no_values = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement))
        transaction.execute(statement, no_values)
