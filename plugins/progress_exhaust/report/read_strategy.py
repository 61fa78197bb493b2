"""How to read a table keyed by user for a batch: its learners' partitions, or all of it once, filtered by the server.

Measured on Cassandra 5: a partition that is asked for costs the cluster and us about as much as twenty that a scan passes
(benchmarks/README.md).
"""

PARTITIONS_PASSED_FOR_ONE_ASKED = 20


def scan_wins(table: str, *, wanted: int, partitions: int, setting: str) -> tuple[bool, str]:
    """Decide, and say why.

    wanted: partitions that the batch's learners have in the table, at most
    partitions: that the table has, by the cluster's estimate; 0: not known
    setting: auto, partitions or scan
    """
    if setting != "auto":
        return setting == "scan", f"{table}: by {setting}, as read_strategy says"
    if not partitions:
        return False, f"{table}: by partitions, for the cluster has no estimate of its size"
    scan = wanted * PARTITIONS_PASSED_FOR_ONE_ASKED > partitions
    return scan, f"{table}: by {'scan' if scan else 'partitions'}, for {wanted:,} of about {partitions:,} partitions are wanted"
