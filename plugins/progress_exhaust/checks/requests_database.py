"""Check Postgres: the tables, columns and rights of the requests and the ledger, TLS and the clock."""

from collections.abc import Iterator
from dataclasses import replace

from progress_exhaust.checks.findings import Finding, Result, describe_tls, failed, guarded, passed, warned
from progress_exhaust.hooks.requests.inspection import DatabaseInspection
from progress_exhaust.stages.selection import check_batch_number
from progress_exhaust.stages.site_setup import Site

WHERE = DatabaseInspection.default_conn_name
OFF_SECONDS, FAR_OFF_SECONDS = 10, 300


def check_requests_database(site: Site) -> Iterator[Finding]:
    """Check everything that the runs need of Postgres. Without a connection, there is one finding."""
    inspection, reader = site.inspection(), replace(site, dry_run=True)
    server = inspection.server()
    yield from guarded("Postgres", WHERE, lambda: [passed(f"version={server.version}")])
    yield from guarded("TLS of Postgres", WHERE, lambda: [describe_tls(server.tls)])
    yield from guarded("clock", WHERE, lambda: [judge_clock(server.clock_offset_seconds)])
    yield from guarded("locks of Postgres", WHERE, lambda: [judge_isolation(inspection.isolation_level())])
    yield from guarded("table of requests", WHERE, lambda: _check_columns(site, inspection))
    yield from guarded("ledger", WHERE, lambda: _check_ledger(reader, inspection))
    yield from guarded("rights on Postgres", WHERE, lambda: _check_rights(reader, inspection))


def judge_clock(offset_seconds: float) -> Result:
    """Judge how far the clock of Postgres is before that of this machine."""
    text = f"Postgres is {abs(offset_seconds):,.1f} s {'ahead of' if offset_seconds > 0 else 'behind'} this machine"
    if abs(offset_seconds) > FAR_OFF_SECONDS:
        return failed(f"{text}: stores and Airflow refuse such a clock. Let NTP set the clock of both")
    if abs(offset_seconds) > OFF_SECONDS:
        return warned(f"{text}. Let NTP set the clock of both")
    return passed(text)


def judge_isolation(level: str) -> Result:
    """Judge the isolation level of transactions: a run that waited for a lock must see what others committed meanwhile."""
    if level != "read committed":
        return failed(
            f"Transactions are {level}, and claims need read committed: set default_transaction_isolation. On YugabyteDB, set "
            "yb_enable_read_committed_isolation, too"
        )
    return passed(f"advisory locks, isolation={level}")


def _check_columns(site: Site, inspection: DatabaseInspection) -> Iterator[Result]:
    missing = inspection.missing_columns()
    check_batch_number(site.settings, missing)
    for column in missing:
        yield warned(f"Table {site.settings.job_request_table} lacks {column}: it counts as null")
    if not missing:
        yield passed(f"{site.settings.job_request_table} has every column")


def _check_ledger(reader: Site, inspection: DatabaseInspection) -> Iterator[Result]:
    is_current = inspection.ledger_is_current()
    reader.ledger().prepare()  # it takes back what it creates
    if is_current:
        yield passed("the ledger has the form of this version")
    else:
        yield warned(f"Schema {reader.settings.ledger_schema} is missing or old. The first task creates or upgrades it")


def _check_rights(reader: Site, inspection: DatabaseInspection) -> Iterator[Result]:
    reader.write_check().check_rights()
    excess = inspection.excess_rights()
    if excess:
        yield warned(
            f"The login may {', '.join(excess)} the whole of {reader.settings.job_request_table}: no run needs that. Use a login "
            "that has the rights of docs/grants/postgres.sql only"
        )
    else:
        yield passed("every right that a run needs, and no wide one")
