"""The ring of tokens, cut into ranges: each is small enough for the server to scan it within its timeout."""

from progress_exhaust.hooks.cassandra.models import Table, TokenRange

FIRST_TOKEN, LAST_TOKEN = -(2**63), 2**63 - 1
# The server must be able to hold what a range has. An enrolment is ten times as heavy as a row of the other tables.
PARTITIONS_PER_RANGE = {Table.ENROLMENTS: 5_000, Table.AGGREGATES: 20_000, Table.ATTEMPTS: 20_000}
RANGES_WITHOUT_ESTIMATE = 64


def cut_ring(table: Table, partitions: int) -> list[TokenRange]:
    """Return ranges that together are the whole ring, each token once.

    The first token of the ring belongs to it: YugabyteDB stores rows there.

    :param partitions: how many the table has; 0 if not known
    """
    ranges = -(-partitions // PARTITIONS_PER_RANGE[table]) or RANGES_WITHOUT_ESTIMATE
    width = (LAST_TOKEN - FIRST_TOKEN) // ranges + 1
    return [(start, min(start + width - 1, LAST_TOKEN)) for start in range(FIRST_TOKEN, LAST_TOKEN + 1, width)]
