"""What the database of the requests says about itself, for the checks of an installation. It changes nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime

from progress_exhaust.hooks.requests.connection import RequestsConnection
from progress_exhaust.hooks.requests.ledger_tables import missing_columns
from progress_exhaust.security.tls import Tls
from progress_exhaust.sql import inspection as sql

VERIFYING_MODES = ("verify-ca", "verify-full")  # of sslmode


@dataclass(frozen=True)
class DatabaseState:
    """The server as one connection sees it.

    :param clock_offset_seconds: how far the server's clock is before that of this machine
    """

    version: str
    clock_offset_seconds: float
    tls: Tls


class DatabaseInspection(RequestsConnection):
    """Reads about the server, the tables and the rights of the login."""

    def server(self) -> DatabaseState:
        """Return the version, the clock and the protection of the connection."""
        with self._transaction() as transaction:
            before = datetime.now(UTC)
            [(version, server_time)] = transaction.fetch_all(sql.SERVER)
            between = before + (datetime.now(UTC) - before) / 2
            connection = transaction.cursor.connection
            tls = Tls(
                host=connection.info.hostaddr if connection.info.host == "localhost" else connection.info.host,
                is_encrypted=connection.pgconn.ssl_in_use,
                is_verified=connection.info.get_parameters().get("sslmode") in VERIFYING_MODES,
            )
            return DatabaseState(version, (server_time - between).total_seconds(), tls)

    def isolation_level(self) -> str:
        """Return the isolation level of transactions; raise SourceError if the server has no advisory locks."""
        with self._transaction() as transaction:
            return str(transaction.fetch_value(sql.ISOLATION_LEVEL))

    def missing_columns(self) -> list[str]:
        """Return the optional columns that job_request lacks; raise SetupError if it lacks a required one."""
        with self._transaction() as transaction:
            return missing_columns(transaction)

    def ledger_is_current(self) -> bool:
        """Return whether the ledger exists in the form of this version."""
        with self._transaction() as transaction:
            return transaction.ledger_is_current()

    def excess_rights(self) -> list[str]:
        """Return the rights on job_request that no run needs."""
        with self._transaction() as transaction:
            return [name for (name,) in transaction.fetch_all(sql.EXCESS_RIGHTS, {"table": self._job_request})]

    def newest_encryption_keys(self) -> list[str]:
        """Return the encryption keys of the newest requests that have one, as they are stored: secrets."""
        with self._transaction() as transaction:
            return [key for (key,) in transaction.fetch_all(sql.NEWEST_ENCRYPTION_KEYS)]
