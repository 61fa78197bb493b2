"""Statements on Postgres that bring requests to an outcome: complete, fail, requeue.

A transaction that changes a claim locks the request's row in job_request first. Every write to that row names the claim.
"""

# Record a published batch as done.
COMPLETE_BATCH = """
UPDATE {ledger}.batch_run SET
  stage = '{stage.MARK_COMPLETE}', state = '{state.DONE}', size_bytes = %(size_bytes)s, object_key = %(object_key)s,
  sha256 = %(sha256)s, protection_level = %(protection_level)s, error = NULL, permanent = false, changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s
  AND installation = %(installation)s AND run_id = %(run_id)s
"""

# Return the batches of a request in its order, how often it has failed, and whether this run has counted its failure.
CLAIM_PROGRESS = """
SELECT c.batch_ids, coalesce(j.iteration, 0), c.failure_counted
FROM {job_request} j JOIN {ledger}.claim c ON c.tag = j.tag AND c.request_id = j.request_id
WHERE j.tag = %(tag)s AND j.request_id = %(request_id)s
  AND c.installation = %(installation)s AND c.run_id = %(run_id)s
"""

# Enter the finished batches of a request, and list their packages.
SET_PROCESSED = """
UPDATE {job_request} j SET processed_batches = %(processed)s, download_urls = %(urls)s
FROM {ledger}.claim c
WHERE j.tag = %(tag)s AND j.request_id = %(request_id)s
  AND c.tag = j.tag AND c.request_id = j.request_id
  AND c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL
"""

# The next three end the work of a run on a request and on its duplicates. None changes a row whose claim was lost. Where
# execution_time is an integer, it can hold 24 days.

# Complete a request. The message names the batches that cannot be made.
SUCCEED = """
UPDATE {job_request} j SET status = '{status.SUCCESS}', download_urls = %(urls)s, processed_batches = %(processed)s,
  err_message = %(message)s, dt_file_created = now() AT TIME ZONE 'utc', dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = least(extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000, 2147483647)
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id
  AND c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.duplicate_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

# Fail a request. A failed attempt is counted once per run; a permanent error costs no attempt.
FAIL = """
UPDATE {job_request} j SET status = '{status.FAILED}', err_message = %(message)s, download_urls = %(urls)s,
  processed_batches = %(processed)s, dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = least(extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000, 2147483647),
  iteration = coalesce(iteration, 0) + CASE WHEN %(counted)s AND NOT c.failure_counted THEN 1 ELSE 0 END
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id
  AND c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.duplicate_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

# Put a request back to SUBMITTED, for the next run.
REQUEUE = """
UPDATE {job_request} j SET status = '{status.SUBMITTED}', err_message = %(message)s
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id
  AND c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.duplicate_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

# Release the claim of a request that has ended, and those of its duplicates.
RELEASE = """
UPDATE {ledger}.claim SET released_at = now(), outcome = %(outcome)s, failure_counted = failure_counted OR %(counted)s,
  permanent = %(permanent)s
WHERE installation = %(installation)s AND run_id = %(run_id)s AND released_at IS NULL
  AND (tag = %(tag)s AND request_id = %(request_id)s OR duplicate_of = %(request_id)s)
"""
