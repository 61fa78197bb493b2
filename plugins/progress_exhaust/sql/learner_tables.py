"""Statements on Cassandra. `{…}` stands for a keyspace or table of the validated settings.

Timestamps are read as milliseconds: a year that Python has no date for must not end a report. `question` is never
read: it weighs kilobytes a row.
"""

# The columns that we read, with the type that a missing one is added with.
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

# The types that are read as the type that a missing column is added with; `contentstatus` is counted from its bytes.
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
    "contentstatus": f"map<(text|ascii), ({_WHOLE})>",
}

# Only counted: they come as bytes.
LEFT_AS_BYTES = frozenset({"contentstatus", "certificates", "issued_certificates"})

_ENROLMENT = """
SELECT userid, active, toUnixTimestamp(enrolled_date), enrolleddate, toUnixTimestamp(completedon), contentstatus,
  certificates, issued_certificates, certstatus"""

# The batch's partition, in the order of its user ids.
ENROLMENTS_OF_BATCH = _ENROLMENT + " FROM {enrolments} WHERE batchid = ? AND courseid = ?"

COUNT_ENROLMENTS = "SELECT count(userid) FROM {enrolments} WHERE batchid = ? AND courseid = ?"

NESTED_PROGRESS = """
SELECT user_id, activity_id, aggregates, agg FROM {courses}.user_activity_agg
WHERE activity_type = 'Course' AND activity_id = ? AND user_id IN ? AND context_id = ?
"""

ATTEMPTS = """
SELECT user_id, content_id, attempt_id, total_score, grand_total, toUnixTimestamp(last_attempted_on), total_max_score
FROM {courses}.assessment_aggregator WHERE user_id IN ? AND course_id = ? AND batch_id = ?
"""

# One range of the ring, filtered by the server to some batches; each row ends with its batch and its collection.
IN_RANGE = {
    "enrolments": _ENROLMENT
    + """, batchid, courseid
FROM {enrolments} WHERE token(userid) > ? AND token(userid) <= ? AND batchid IN ? ALLOW FILTERING
""",
    "user_activity_agg": """
SELECT user_id, activity_id, aggregates, agg, context_id, activity_id FROM {courses}.user_activity_agg
WHERE token(activity_type, activity_id, user_id) > ? AND token(activity_type, activity_id, user_id) <= ?
  AND activity_type = 'Course' AND context_id IN ? ALLOW FILTERING
""",
    "assessment_aggregator": """
SELECT user_id, content_id, attempt_id, total_score, grand_total, toUnixTimestamp(last_attempted_on), total_max_score,
  batch_id, course_id
FROM {courses}.assessment_aggregator WHERE token(user_id, course_id) > ? AND token(user_id, course_id) <= ?
  AND batch_id IN ? ALLOW FILTERING
""",
}

# course_batch is keyed by course and small: a batch that is known by its own id alone is found by the server's filter.
BATCHES_BY_ID = "SELECT courseid, batchid, name FROM {courses}.course_batch WHERE batchid IN ? ALLOW FILTERING"

BATCHES_OF_COLLECTIONS = "SELECT courseid, batchid, name FROM {courses}.course_batch WHERE courseid IN ?"

HIERARCHY = "SELECT hierarchy FROM {hierarchies} WHERE identifier = ?"

TABLE_SIZE = """
SELECT partitions_count FROM system.size_estimates WHERE keyspace_name = ? AND table_name = ?
"""
