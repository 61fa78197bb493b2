"""Which submitted requests no run has claimed yet: read only, and without blocking an event loop. For the trigger."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.requests.connection import RequestsConnection, first_line
from progress_exhaust.hooks.requests.models import SQL_VALUES, Submission
from progress_exhaust.sql import connection as limits
from progress_exhaust.sql import submissions as sql

MOST = 1000  # the newest ones; those after them were seen before
ANSWER_SECONDS, LOST_AFTER_MILLISECONDS = 25, 20_000


class SubmissionWatch(RequestsConnection):
    """One connection that stays open between the questions: a new one each time would cost more than the question."""

    _arguments: dict[str, Any]
    _connection_to_ask: Any = None
    _ledger_exists = False

    def prepare(self) -> None:
        """Read the connection from Airflow. It blocks, so use a thread."""
        self._arguments = dict(self.get_conn())  # type: ignore[call-overload]

    async def connect(self) -> None:
        """Connect to Postgres."""
        async with self._translate_errors():
            self._connection_to_ask = await psycopg.AsyncConnection.connect(**self._arguments)
            await self._connection_to_ask.set_read_only(True)

    async def waiting(self, *, batch_number: int | None, channels: Sequence[str], starting: bool) -> list[Submission]:
        """Return the submissions that wait for their first run, the newest first.

        :param starting: whether to look up which ones a run has passed over
        """
        values = {"batch_number": batch_number, "channels": list(channels) or None, "starting": starting, "most": MOST}
        async with (
            self._translate_errors(),
            asyncio.timeout(ANSWER_SECONDS),
            self._connection_to_ask.transaction(),
            self._connection_to_ask.cursor(row_factory=tuple_row) as cursor,
        ):
            await cursor.execute(limits.LIMIT_READS)
            if not self._ledger_exists:
                await cursor.execute(sql.LEDGER_EXISTS, {"claim": f"{self._ledger}.claim"})
                [self._ledger_exists] = await cursor.fetchone()
            if self._ledger_exists:
                await cursor.execute(
                    sql.SUBMISSIONS.format(job_request=self._job_request, ledger=self._ledger, **SQL_VALUES), values
                )
            else:
                await cursor.execute(sql.WITHOUT_LEDGER.format(job_request=self._job_request, **SQL_VALUES), values)
            return [Submission(*row) for row in await cursor.fetchall()]

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection_to_ask = self._connection_to_ask, None
        if connection is not None:
            await connection.close()

    def _connect_options(self) -> dict[str, Any]:
        return super()._connect_options() | {"tcp_user_timeout": LOST_AFTER_MILLISECONDS}

    def _create_connection(self, conn_args: dict[str, Any]) -> Any:
        return self._connect_options() | conn_args  # connect() uses them

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        late, needed = f"no answer in {ANSWER_SECONDS} s", "SELECT"
        try:
            yield
        except TimeoutError:
            raise SourceError(f"{self._where()} does not answer: {late}") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise SetupError(f"{self._where()}: {first_line(error)} (for {needed}); {self.rights}") from None
        except psycopg.errors.UndefinedTable as error:
            raise SetupError(f"{self._where()}: {first_line(error)}; see the setting job_request_table") from None
        except psycopg.Error as error:
            raise SourceError(f"{self._where()}: {first_line(error)}") from None
