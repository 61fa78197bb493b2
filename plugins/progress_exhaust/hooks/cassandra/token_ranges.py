"""The ring of tokens, cut into ranges: each is small enough for the server to scan it within its timeout."""

from progress_exhaust.hooks.cassandra.models import Table, TableSize, TokenRange

FIRST_TOKEN, LAST_TOKEN = -(2**63), 2**63 - 1
# The server must be able to hold what a range has. An enrolment is ten times as heavy as a row of the other tables.
PARTITIONS_PER_RANGE = {Table.ENROLMENTS: 5_000, Table.AGGREGATES: 20_000, Table.ATTEMPTS: 20_000}
BYTES_PER_RANGE = 16 * 2**20  # in the cluster: the attempts of a learner in a wide course are many
RANGES_WITHOUT_ESTIMATE = 64
TOKENS_PER_HASH = 2**48  # YugabyteDB hashes to 16 bits, and cuts the bounds of a query to these


def cut_ring(table: Table, size: TableSize) -> list[TokenRange]:
    """Return ranges that together are the whole ring, each token once.

    The first token of the ring belongs to it: YugabyteDB stores rows there. No two ranges have a hash of YugabyteDB in common,
    up to as many ranges as there are hashes.
    """
    by_partitions, by_bytes = -(-size.partitions // PARTITIONS_PER_RANGE[table]), -(-size.bytes // BYTES_PER_RANGE)
    ranges = max(by_partitions, by_bytes) or RANGES_WITHOUT_ESTIMATE
    width = (LAST_TOKEN - FIRST_TOKEN) // ranges + 1
    if width >= TOKENS_PER_HASH:
        width = -(-width // TOKENS_PER_HASH) * TOKENS_PER_HASH
    return [(start, min(start + width - 1, LAST_TOKEN)) for start in range(FIRST_TOKEN, LAST_TOKEN + 1, width)]
