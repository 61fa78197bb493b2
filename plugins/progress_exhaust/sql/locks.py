"""Statements on Postgres that lock: rows of requests and claims, and attempts of a task.

A transaction that changes a claim locks the request's row in job_request first.
"""

# Wait until no other task of the run holds this lock; it is held until the transaction ends.
WAIT_FOR_EXCLUSIVE_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%(work)s, 0))"

# Lock a request and its duplicates, which end together. Only the next statement sees who holds them: a statement that had to
# wait for a lock still sees the previous claims.
LOCK_REQUEST = """
SELECT tag, request_id, processed_batches::text FROM {job_request}
WHERE (tag, request_id) IN (
  SELECT %(tag)s, %(request_id)s
  UNION SELECT tag, request_id FROM {ledger}.claim
  WHERE installation = %(installation)s AND run_id = %(run_id)s AND duplicate_of = %(request_id)s)
ORDER BY tag, request_id FOR UPDATE
"""

# Lock several requests, always in the same order, so that two runs cannot block each other.
LOCK_REQUESTS = """
SELECT FROM {job_request} WHERE (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
ORDER BY tag, request_id FOR UPDATE
"""

# Keep other runs from taking a claim while this run publishes a file.
LOCK_CLAIM = """
SELECT FROM {ledger}.claim
WHERE tag = %(tag)s AND request_id = %(request_id)s
  AND installation = %(installation)s AND run_id = %(run_id)s AND released_at IS NULL FOR SHARE
"""

# Tell whether a newer attempt of the stage has started; keep one from starting while this one writes.
LOCK_TASK_ATTEMPT = """
SELECT coalesce((task_attempts->>%(stage)s)::integer, 0) > %(task_attempt)s FROM {ledger}.batch_run
WHERE installation = %(installation)s AND run_id = %(run_id)s
  AND tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s FOR SHARE
"""

# The same, for a transaction that changes this row, too: two that share the lock would each wait for the other.
LOCK_TASK_ATTEMPT_TO_WRITE = LOCK_TASK_ATTEMPT.replace("FOR SHARE", "FOR UPDATE")

# The same for list_batches. A list without a batch leaves no row here: an old attempt finds its requests finished instead.
LOCK_LIST_ATTEMPT = """
SELECT coalesce((task_attempts->>'{stage.LIST_BATCHES}')::integer, 0) > %(task_attempt)s FROM {ledger}.batch_run
WHERE installation = %(installation)s AND run_id = %(run_id)s ORDER BY tag, request_id, batch_id FOR UPDATE
"""

# Return the run that holds a request.
HOLDER = """
SELECT tag, request_id, installation, run_id, claimed_at FROM {ledger}.claim
WHERE tag = %(tag)s AND request_id = %(request_id)s AND released_at IS NULL
"""

# Return the other run that completed a request last, for the message about a lost claim.
COMPLETED_BY = """
SELECT run_id FROM {ledger}.claim
WHERE tag = %(tag)s AND request_id = %(request_id)s AND outcome = '{outcome.SUCCESS}'
  AND (installation, run_id) <> (%(installation)s, %(run_id)s)
ORDER BY released_at DESC LIMIT 1
"""

# Tell whether a person has cancelled a request while this run held it, or since.
IS_CANCELLED = """
SELECT EXISTS (
  SELECT FROM {ledger}.claim own JOIN {ledger}.claim cancelled USING (tag, request_id)
  WHERE tag = %(tag)s AND request_id = %(request_id)s AND own.installation = %(installation)s AND own.run_id = %(run_id)s
    AND cancelled.outcome = '{outcome.CANCELLED}' AND cancelled.released_at >= own.released_at)
"""

# Tell whether a request still has its row in job_request.
REQUEST_EXISTS = "SELECT EXISTS (SELECT FROM {job_request} WHERE tag = %(tag)s AND request_id = %(request_id)s)"

# Tell whether any row has this request id, whatever its tag: their packages have the same keys.
REQUEST_ID_EXISTS = "SELECT EXISTS (SELECT FROM {job_request} WHERE request_id = %(request_id)s)"
