"""Statements on Cassandra. `{…}` stands for a keyspace or table of the validated settings.

Timestamps are read as milliseconds: Python has no date for some years, and they must not end a report. `question` is never
read: it has kilobytes per row.
"""

# The columns that we read, with the types that Sunbird gives them.
ENROLMENT_COLUMNS = {
    "userid": "text",
    "courseid": "text",
    "batchid": "text",
    "active": "boolean",
    "enrolled_date": "timestamp",
    "enrolleddate": "text",
    "completedon": "timestamp",
    "contentstatus": "map<text, int>",
    "certificates": "list<frozen<map<text, text>>>",
    "issued_certificates": "list<frozen<map<text, text>>>",
    "certstatus": "int",
}
AGGREGATE_COLUMNS = {
    "activity_type": "text",
    "activity_id": "text",
    "user_id": "text",
    "context_id": "text",
    "agg": "map<text, int>",
    "aggregates": "map<text, double>",
}
ATTEMPT_COLUMNS = {
    "user_id": "text",
    "course_id": "text",
    "batch_id": "text",
    "content_id": "text",
    "attempt_id": "text",
    "total_score": "double",
    "grand_total": "text",
    "last_attempted_on": "timestamp",
    "total_max_score": "double",
}
BATCH_COLUMNS = {"courseid": "text", "batchid": "text", "name": "text"}
HIERARCHY_COLUMNS = {"identifier": "text", "hierarchy": "text"}

# Some installations lack these: they count as null. Of two columns for the same fact, at least one must exist.
ONE_OF_TWO = {"certificates": "issued_certificates", "enrolled_date": "enrolleddate", "agg": "aggregates"}
OPTIONAL_COLUMNS = frozenset(
    {
        "certificates",
        "issued_certificates",
        "enrolled_date",
        "enrolleddate",
        "agg",
        "aggregates",
        "certstatus",
        "grand_total",
        "last_attempted_on",
        "total_max_score",
    }
)

# The types that can be read in place of the types above. `contentstatus` is counted from its bytes.
_WHOLE = "tinyint|smallint|int|bigint"
_NUMBER = f"{_WHOLE}|float|double"
READABLE = {
    "text": "text|ascii|varchar",
    "boolean": "boolean",
    "timestamp": "timestamp|date|timeuuid",
    "int": _WHOLE,
    "double": _NUMBER,
    "map<text, int>": f"map<(text|ascii), ({_NUMBER})>",
    "map<text, double>": f"map<(text|ascii), ({_NUMBER})>",
    "list<frozen<map<text, text>>>": "(list|set)<.+>",
    "list<text>": "(list|set)<(text|ascii)>",
    "map<text, frozen<list<text>>>": "map<(text|ascii), frozen<(list|set)<(text|ascii)>>>",
    "contentstatus": f"map<(text|ascii), ({_WHOLE})>",
}

# These are only counted: their values stay bytes.
LEFT_AS_BYTES = frozenset({"contentstatus", "certificates", "issued_certificates"})

_ENROLMENT = """
SELECT userid, active, toUnixTimestamp(enrolled_date), enrolleddate, toUnixTimestamp(completedon), contentstatus,
  certificates, issued_certificates, certstatus"""

# Read the enrolments of a batch, in the order of their user ids.
ENROLMENTS_OF_BATCH = _ENROLMENT + " FROM {enrolments} WHERE batchid = ? AND courseid = ?"

# The same, from a table whose learners are in descending order.
ENROLMENTS_IN_ASCENDING_ORDER = ENROLMENTS_OF_BATCH + " ORDER BY userid ASC"

# Look up one learner in a batch.
ENROLMENT = "SELECT batchid FROM {enrolments} WHERE userid = ? AND courseid = ? AND batchid = ?"

# Count the enrolments of a batch.
COUNT_ENROLMENTS = "SELECT count(userid) FROM {enrolments} WHERE batchid = ? AND courseid = ?"

_AGGREGATES_OF_LEARNERS = """
FROM {courses}.user_activity_agg WHERE activity_type = 'Course' AND activity_id = ? AND user_id IN ? AND context_id = ?"""

# Read how far some learners are in one collection. Only Cassandra 4.0 and later can select an element of a map.
NESTED_PROGRESS = "SELECT user_id, activity_id, aggregates['completedCount'], agg['completedCount'] " + _AGGREGATES_OF_LEARNERS

# Read the scores that their aggregates in one collection have.
ARCHIVED_SCORES = "SELECT user_id, aggregates " + _AGGREGATES_OF_LEARNERS

_ATTEMPT = """
SELECT user_id, content_id, attempt_id, total_score, grand_total, toUnixTimestamp(last_attempted_on), total_max_score"""

# Read the assessment attempts of some learners in a batch, from a table keyed by user and course.
ATTEMPTS = _ATTEMPT + " FROM {courses}.assessment_aggregator WHERE user_id IN ? AND course_id = ? AND batch_id = ?"

# The same, from a table that has the attempts of a batch in the order of the learners: those of all from one id to another. The
# tables differ in the names of two columns.
_ATTEMPTS_IN_ORDER = (
    _ATTEMPT
    + """
FROM {courses}.assessment_aggregator WHERE course_id = ? AND batch_id = ? AND user_id >= ? AND user_id <= ?"""
)
ATTEMPTS_IN_ORDER = {
    "course_id": _ATTEMPTS_IN_ORDER,
    "collection_id": _ATTEMPTS_IN_ORDER.replace("course_id", "collection_id").replace("batch_id", "context_id"),
}

# Scan one range of the ring, whose first and last token belong to it. Each row ends with its batch; of enrolments and attempts,
# the collection comes before it.
SCAN_ALL_ENROLMENTS = (
    _ENROLMENT
    + """, courseid, batchid
FROM {enrolments} WHERE token(userid) >= ? AND token(userid) <= ?"""
)
# Read the enrolments of a course by an index.
ENROLMENTS_OF_COURSE = (
    _ENROLMENT
    + """, courseid, batchid
FROM {enrolments} WHERE courseid = ?"""
)
# Read only those of a batch. The server filters.
INDEXED_ENROLMENTS = ENROLMENTS_OF_COURSE + " AND batchid = ? ALLOW FILTERING"

# Scan a range for the rows of some batches. The server filters.
SCAN_ENROLMENTS = SCAN_ALL_ENROLMENTS + " AND batchid IN ? ALLOW FILTERING"
SCAN_NESTED_PROGRESS = """
SELECT user_id, activity_id, aggregates['completedCount'], agg['completedCount'], context_id FROM {courses}.user_activity_agg
WHERE token(activity_type, activity_id, user_id) >= ? AND token(activity_type, activity_id, user_id) <= ?
  AND activity_type = 'Course' AND context_id IN ? ALLOW FILTERING
"""
SCAN_ATTEMPTS = (
    _ATTEMPT
    + """, course_id, batch_id
FROM {courses}.assessment_aggregator WHERE token(user_id, course_id) >= ? AND token(user_id, course_id) <= ?
  AND batch_id IN ? ALLOW FILTERING"""
)

# List all batches: a page at a time, a server can always do that. The table is small.
ALL_BATCHES = "SELECT courseid, batchid, name FROM {courses}.course_batch"

# Find batches by their ids alone. The table is keyed by course: the server filters it.
BATCHES_BY_ID = ALL_BATCHES + " WHERE batchid IN ? ALLOW FILTERING"

# List the batches of some collections.
BATCHES_OF_COLLECTIONS = ALL_BATCHES + " WHERE courseid IN ?"

# Read the tree of a collection.
HIERARCHY = "SELECT hierarchy FROM {hierarchies} WHERE identifier = ?"

# Read the node's estimate of how many partitions a table has in the node's own ranges.
TABLE_SIZE = """
SELECT partitions_count, mean_partition_size FROM system.size_estimates WHERE keyspace_name = ? AND table_name = ?
"""
