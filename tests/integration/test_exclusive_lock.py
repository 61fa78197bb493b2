"""The lock that tasks of a run wait for is kept for as long as the work takes, whatever the server's limits."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.install import Install
from tests.integration.life import RunHook

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


@pytest.fixture
def hook(install: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunHook]:
    for name, value in install.environment().items():
        monkeypatch.setenv(name, value)
    [row] = install.sql("SELECT current_database() AS name")
    for limit in LIMITS:
        install.sql(f'ALTER DATABASE "{row["name"]}" SET {limit} = 300')  # milliseconds
    # Shorter than the work: the wait for one's turn has no end of its own.
    yield RunHook(run_id="run", job_request_table="job_request", ledger_schema="progress_exhaust", timeout_seconds=0.8)
    for limit in LIMITS:
        install.sql(f'ALTER DATABASE "{row["name"]}" RESET {limit}')


def test_work_that_takes_longer_than_the_servers_limits_is_done_by_one_task_at_a_time(hook: RunHook) -> None:
    told: list[str] = []
    first_is_in = threading.Event()

    def work(name: str) -> None:
        with hook.exclusive_lock("work"):
            told.append(f"{name} begins")
            first_is_in.set()
            time.sleep(1)
            told.append(f"{name} ends")

    first = threading.Thread(target=work, args=["first"])
    first.start()
    first_is_in.wait()
    work("second")
    first.join()
    assert told == ["first begins", "first ends", "second begins", "second ends"]
