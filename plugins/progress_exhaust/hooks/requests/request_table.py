"""Create the table of the requests where a site has none, such as one on Sunbird Spark."""

import psycopg

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.connection import RequestsConnection, Transaction
from progress_exhaust.sql import job_request as sql


class RequestTable(RequestsConnection):
    """The table of the setting `job_request_table`. An existing table is never changed."""

    def where(self) -> str:
        """Return the server, for messages."""
        return self._where()

    def statements(self) -> str:
        """Return the statements that create the table, and its schema if that is missing; empty if the table exists."""
        with self._transaction() as transaction:
            return _statements(transaction)

    def create(self) -> bool:
        """Create the table; return False if it exists. Raise SetupError, with the statements to run, if this role may not."""
        with self._transaction() as transaction:
            statements = _statements(transaction)
            if not statements:
                return False
            try:
                transaction.execute_script(statements)
            except (SetupError, psycopg.errors.InvalidSchemaName):  # the latter: the role sees no schema to create it in
                raise SetupError(
                    f"{self._where()} has no table {transaction.job_request}, and this role may not create it or its schema. "
                    "Ask a role with the rights to run the following, which is docs/grants/job_request.sql, and then "
                    f"docs/grants/postgres.sql:\n{statements}"
                ) from None
        return True


def _statements(transaction: Transaction) -> str:
    if transaction.fetch_value(sql.TABLE_EXISTS, {"table": transaction.job_request}):
        return ""
    schema, has_schema, _ = transaction.job_request.partition(".")
    is_missing = has_schema and not transaction.fetch_value(sql.SCHEMA_EXISTS, {"schema": schema})
    return (sql.CREATE_SCHEMA.format(schema=schema) if is_missing else "") + transaction.script(sql.CREATE_JOB_REQUEST)
