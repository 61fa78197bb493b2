"""Check Cassandra: each cluster, and each table with its columns, key and rights. Each table is read once, for no learner."""

from collections.abc import Callable, Iterator
from functools import partial

from progress_exhaust.checks.findings import NO_ONE, Finding, Result, describe_tls, guarded, passed, warned
from progress_exhaust.hooks.cassandra.inspection import ClusterState
from progress_exhaust.hooks.cassandra.models import Table, tables_of
from progress_exhaust.hooks.cassandra.shapes import KeyedBy
from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
from progress_exhaust.settings import Settings
from progress_exhaust.stages.site_setup import Site

STABLE_PROTOCOL = 4


def check_cluster(site: Site, connection: str) -> Iterator[Finding]:
    """Check one cluster and the tables that it has. Without a connection, there is one finding."""
    with site.learner_tables() as tables:
        state = tables.inspect(connection)
        versions = passed(f"version={', '.join(state.versions)} nodes={state.nodes}")
        yield from guarded("Cassandra", connection, lambda: [versions])
        yield from guarded("TLS of Cassandra", connection, lambda: [describe_tls(state.tls)])
        yield from guarded("protocol of Cassandra", connection, lambda: [judge_protocol(state.protocol_version)])
        yield from guarded("rights on Cassandra", connection, lambda: [judge_rights(state)])
        for of_table, name, check in _tables(site.settings, tables):
            if of_table == connection:
                yield from guarded(f"table {name}", connection, check)
    if site.settings.user_source == "tables":
        with site.user_tables() as users:
            for of_table, name, read in users.reads(NO_ONE):
                if of_table == connection:
                    yield from guarded(f"table {name}", connection, partial(_check_read, read))


def _check_read(read: Callable[[], object]) -> Iterator[Result]:
    read()
    yield passed("readable")


def judge_protocol(version: int) -> Result:
    """Judge the version of the protocol: the driver closes connections of version 5 at random."""
    if version > STABLE_PROTOCOL:
        return warned(
            f"protocol_version={version}: the driver sometimes closes such connections. Set protocol_version to "
            f"{STABLE_PROTOCOL} in the extra"
        )
    return passed(f"protocol_version={version}")


def judge_rights(state: ClusterState) -> Result:
    """Judge what the login may do in addition to reading."""
    if state.excess_rights is None:
        return warned("The cluster checks no rights: every login can change every table. Switch on CassandraAuthorizer")
    if state.excess_rights:
        return warned(
            f"The login may do what no run needs: {', '.join(state.excess_rights)}. Use a login that has the rights of "
            "docs/grants/cassandra.cql only"
        )
    return passed("the login may only read")


def _tables(settings: Settings, tables: LearnerTablesHook) -> Iterator[tuple[str, str, Callable[[], Iterator[Result]]]]:
    """Yield the connection, the name and the check of each table."""
    courses, keyspace = settings.courses_connection, settings.courses_keyspace
    yield settings.enrolments_connection, settings.enrolments_table, lambda: _check_enrolments(tables)
    yield courses, f"{keyspace}.course_batch", lambda: _check_batches(tables)
    yield courses, f"{keyspace}.{Table.AGGREGATES}", lambda: _check_aggregates(tables)
    if Table.ATTEMPTS in tables_of(settings.scores_from):
        yield courses, f"{keyspace}.{Table.ATTEMPTS}", lambda: _check_attempts(tables)
    yield settings.hierarchy_connection, settings.hierarchy_table, lambda: _check_hierarchy(tables)


def _check_enrolments(tables: LearnerTablesHook) -> Iterator[Result]:
    keyed_by = tables.shape(Table.ENROLMENTS).keyed_by
    if keyed_by is KeyedBy.BATCH:
        list(tables.enrolments_of_batch(NO_ONE, NO_ONE))
    else:
        list(tables.scan(Table.ENROLMENTS, [(0, 0)], [NO_ONE]))
    if keyed_by is KeyedBy.LEARNER_INDEXED:
        list(tables.indexed_enrolments([(NO_ONE, NO_ONE)]))
    yield from _warnings_or_passed(tables, Table.ENROLMENTS, keyed_by)


def _check_batches(tables: LearnerTablesHook) -> Iterator[Result]:
    list(tables.batches([NO_ONE]))
    list(tables.batches_of_collections([NO_ONE]))
    yield passed("readable")


def _check_aggregates(tables: LearnerTablesHook) -> Iterator[Result]:
    keyed_by = tables.shape(Table.AGGREGATES).keyed_by
    list(tables.nested_progress([NO_ONE], [NO_ONE], NO_ONE))
    yield from _warnings_or_passed(tables, Table.AGGREGATES, keyed_by)


def _check_attempts(tables: LearnerTablesHook) -> Iterator[Result]:
    keyed_by = tables.shape(Table.ATTEMPTS).keyed_by
    list(tables.attempts([NO_ONE], NO_ONE, NO_ONE))
    yield from _warnings_or_passed(tables, Table.ATTEMPTS, keyed_by)


def _check_hierarchy(tables: LearnerTablesHook) -> Iterator[Result]:
    tables.hierarchy(NO_ONE)
    yield passed("readable")


def _warnings_or_passed(tables: LearnerTablesHook, table: Table, keyed_by: KeyedBy) -> Iterator[Result]:
    warnings = tables.warnings([table])
    yield from map(warned, warnings)
    if not warnings:
        yield passed(f"readable, keyed by {keyed_by}")
