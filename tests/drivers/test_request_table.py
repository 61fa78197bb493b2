"""The table of the requests, where its role may not create it."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.request_table import RequestTable


@pytest.mark.parametrize(
    "error", [SetupError("permission denied"), psycopg.errors.InvalidSchemaName("no schema has been selected")]
)
def test_a_role_that_may_not_create_it_gets_the_statements(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(_statements: str) -> None:
        raise error

    transaction = SimpleNamespace(
        job_request="job_request", fetch_value=lambda *_: None, script=lambda _: "CREATE TABLE …", execute_script=refuse
    )

    @contextmanager
    def open_transaction(_table: Any) -> Iterator[Any]:
        yield transaction

    monkeypatch.setattr(RequestTable, "_transaction", open_transaction)
    monkeypatch.setattr(RequestTable, "_where", lambda _table: "Postgres")
    table = RequestTable(job_request_table="job_request", ledger_schema="progress_exhaust")
    with pytest.raises(
        SetupError, match="Postgres has no table job_request, and this role may not create it or its schema"
    ) as raised:
        table.create()
    assert str(raised.value).endswith("CREATE TABLE …")
