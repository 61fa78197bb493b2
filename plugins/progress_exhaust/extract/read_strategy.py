"""Choose how to read a table that is keyed by user: the partitions of the learners, or one scan of the whole table.

Measured on Cassandra 5: to read one partition by its key costs the cluster and us about as much as to scan twenty
(benchmarks/README.md).
"""

from progress_exhaust.hooks.cassandra.models import Table

SCANNED_PARTITIONS_PER_READ = 20


def should_scan(table: Table, *, wanted: int, partitions: int, setting: str) -> tuple[bool, str]:
    """Return whether to scan, and the reason for the log.

    :param wanted: the most partitions that the learners can have in the table
    :param partitions: how many the table has, by the cluster's estimate; 0 if not known
    :param setting: auto, partitions or scan
    """
    if setting != "auto":
        return setting == "scan", f"{table}: by {setting}, as read_strategy says"
    if not partitions:
        return False, f"{table}: by partitions, because the cluster has no estimate of the table's size"
    scan = wanted * SCANNED_PARTITIONS_PER_READ > partitions
    return scan, f"{table}: by {'scan' if scan else 'partitions'}, for {wanted:,} of about {partitions:,} partitions are wanted"
