"""Statements on Postgres about requests and claims: find, claim, complete, fail, requeue.

A transaction that changes a claim locks the request's row in job_request first. Every write to that row names the claim.
"""

# What a run may work on: requests that wait, and those that failed fewer than three times. Requests that are PROCESSING too, if
# the run that holds them has ended, or if no run of ours holds them and they were submitted long ago. `force` adds finished
# requests: those that are named, otherwise those of the day. Some installations have no column batch_number: the name then means
# the null of `absent`.
_PENDING = """
job_id = '{job_id}'
  AND (%(request_ids)s::text[] IS NULL OR request_id = ANY(%(request_ids)s))
  AND (%(batch_number)s::integer IS NULL OR EXISTS (
    SELECT FROM (SELECT NULL::integer AS batch_number) AS absent
    WHERE (SELECT batch_number FROM {job_request} same WHERE same.tag = j.tag AND same.request_id = j.request_id)
      = %(batch_number)s))
  AND (%(channels)s::text[] IS NULL OR requested_channel = ANY(%(channels)s))
  AND (%(submitted_before)s::timestamp IS NULL OR dt_job_submitted < %(submitted_before)s)
  AND (status = '{status.SUBMITTED}'
    OR status = '{status.FAILED}' AND coalesce(iteration, 0) < {max_failures}
    OR %(force)s AND status IN ('{status.SUCCESS}', '{status.FAILED}') AND (%(request_ids)s::text[] IS NOT NULL OR EXISTS (
      SELECT FROM unnest(download_urls) AS url WHERE right(url, length(%(day_ending)s)) = %(day_ending)s))
    OR status = '{status.PROCESSING}' AND EXISTS (
      SELECT FROM {ledger}.claim c
      WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL AND run_id = ANY(%(ended_runs)s))
    OR status = '{status.PROCESSING}' AND dt_job_submitted < %(abandoned_before)s AND NOT EXISTS (
      SELECT FROM {ledger}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL))
"""

_OLDEST_FIRST = " ORDER BY dt_job_submitted, request_id LIMIT %(most)s"

# Count the requests that a run may claim.
COUNT_PENDING = "SELECT count(*) FROM {job_request} j WHERE " + _PENDING

# Return the age of the oldest one in seconds. The column is UTC without a zone; a clock that is ahead gives 0.
OLDEST_PENDING = (
    "SELECT greatest(extract(epoch FROM (now() AT TIME ZONE 'utc') - min(dt_job_submitted)), 0) FROM {job_request} j "
    "WHERE isfinite(dt_job_submitted) AND " + _PENDING
)

# Return what a claim would take, and change nothing.
PENDING = (
    """
SELECT tag, request_id, request_data::text, requested_by, requested_channel, encryption_key,
  processed_batches::text
FROM {job_request} j WHERE """
    + _PENDING
    + _OLDEST_FIRST
)

# Submit a request, as the exhaust API does.
SUBMIT = """
INSERT INTO {job_request} (tag, request_id, job_id, status, request_data, requested_by, requested_channel, dt_job_submitted,
  iteration)
VALUES (%(tag)s, %(request_id)s, '{job_id}', '{status.SUBMITTED}', %(data)s, %(by)s, %(channel)s, now() AT TIME ZONE 'utc', 0)
"""

# The same, for one part of the queue.
SUBMIT_WITH_BATCH_NUMBER = SUBMIT.replace("iteration)", "iteration, batch_number)").replace(", 0)", ", 0, %(batch_number)s)")

# Return the other runs that hold a request. Airflow decides whether they are still active.
HOLDING_RUNS = "SELECT DISTINCT run_id FROM {ledger}.claim WHERE released_at IS NULL AND run_id <> %(run_id)s"

# Lock the requests to claim until the claim is written; skip what another run is claiming at this moment.
LOCK_PENDING = "SELECT tag, request_id FROM {job_request} j WHERE " + _PENDING + _OLDEST_FIRST + " FOR UPDATE OF j SKIP LOCKED"

# Return the claims of ended runs that a late task still uses to publish: the next run takes them.
STILL_PUBLISHING = """
WITH free AS (
  SELECT tag, request_id, run_id FROM {ledger}.claim
  WHERE released_at IS NULL AND run_id = ANY(%(ended_runs)s)
    AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  FOR UPDATE SKIP LOCKED)
SELECT tag, request_id FROM {ledger}.claim
WHERE released_at IS NULL AND run_id = ANY(%(ended_runs)s)
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  AND (tag, request_id, run_id) NOT IN (SELECT tag, request_id, run_id FROM free)
"""

# Count the attempt of an ended run as a failed one, once.
COUNT_LOST_ATTEMPTS = """
UPDATE {job_request} j SET iteration = coalesce(iteration, 0) + 1
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.released_at IS NULL AND c.run_id = ANY(%(ended_runs)s)
  AND NOT c.failure_counted
  AND (j.tag, j.request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Release the claims of ended runs.
RELEASE_LOST = """
UPDATE {ledger}.claim SET released_at = now(), outcome = '{outcome.LOST}', failure_counted = true
WHERE released_at IS NULL AND run_id = ANY(%(ended_runs)s)
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Fail a request whose runs were lost three times: it gets no fourth attempt.
FAIL_EXHAUSTED = """
UPDATE {job_request} j
SET status = '{status.FAILED}', err_message = %(message)s, dt_job_completed = now() AT TIME ZONE 'utc'
WHERE status = '{status.PROCESSING}' AND iteration >= {max_failures}
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  AND NOT EXISTS (
    SELECT FROM {ledger}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL)
  AND EXISTS (
    SELECT FROM {ledger}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND outcome = '{outcome.LOST}')
RETURNING tag, request_id
"""

# Let a run that was deleted in Airflow, and created there again with the same id, count its attempts from 1.
RESET_LIST_ATTEMPT = """
UPDATE {ledger}.batch_run SET task_attempts = task_attempts - '{stage.LIST_BATCHES}' WHERE run_id = %(run_id)s
"""

# Claim the requests that no run holds. Their rows are locked, so that no other run can claim them meanwhile.
TAKE = """
INSERT INTO {ledger}.claim (tag, request_id, run_id)
SELECT tag, request_id, %(run_id)s FROM unnest(%(tags)s::text[], %(ids)s::text[]) AS wanted (tag, request_id)
WHERE NOT EXISTS (
  SELECT FROM {ledger}.claim c
  WHERE c.tag = wanted.tag AND c.request_id = wanted.request_id AND released_at IS NULL)
ON CONFLICT (tag, request_id, run_id) DO UPDATE SET released_at = NULL, outcome = NULL, claimed_at = now()
RETURNING tag, request_id
"""

# Mark claimed requests as PROCESSING, and clear the outcome of an earlier submission.
START = """
UPDATE {job_request} SET status = '{status.PROCESSING}', err_message = NULL, dt_job_completed = NULL
WHERE (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Return the requests that this run holds, the oldest first.
HELD = """
SELECT j.tag, j.request_id, j.request_data::text, j.requested_by, j.requested_channel, j.encryption_key,
  j.processed_batches::text
FROM {job_request} j JOIN {ledger}.claim c ON c.tag = j.tag AND c.request_id = j.request_id
WHERE c.run_id = %(run_id)s AND c.released_at IS NULL AND (%(duplicates)s OR c.duplicate_of IS NULL)
ORDER BY j.dt_job_submitted, j.request_id
"""

# Return the run that holds each of these requests.
HOLDERS = """
SELECT request_id, run_id FROM {ledger}.claim
WHERE released_at IS NULL AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Return what this run held and did not complete. Its cleared tasks claim it again, unless another run has completed it since.
UNFINISHED_CLAIMS = """
SELECT tag, request_id FROM {ledger}.claim c
WHERE run_id = %(run_id)s AND released_at IS NOT NULL AND outcome <> '{outcome.SUCCESS}'
  AND NOT EXISTS (
    SELECT FROM {job_request} j WHERE j.tag = c.tag AND j.request_id = c.request_id AND j.status = '{status.SUCCESS}')
ORDER BY tag, request_id
"""

# Return a request of this run and its duplicates, for a rerun of one batch, unless another run has completed them since.
CLAIMS_OF_BATCH = """
SELECT tag, request_id FROM {ledger}.claim c
WHERE run_id = %(run_id)s AND (tag = %(tag)s AND request_id = %(request_id)s OR duplicate_of = %(request_id)s)
  AND NOT EXISTS (
    SELECT FROM {ledger}.claim later JOIN {job_request} j USING (tag, request_id)
    WHERE later.tag = c.tag AND later.request_id = c.request_id AND j.status = '{status.SUCCESS}'
      AND later.outcome = '{outcome.SUCCESS}' AND later.run_id <> c.run_id AND later.released_at > c.released_at)
ORDER BY tag, request_id
"""

# Tell whether this run has ever held a request that it has not completed.
HAS_UNFINISHED = """
SELECT EXISTS (SELECT FROM {ledger}.claim WHERE run_id = %(run_id)s AND outcome IS DISTINCT FROM '{outcome.SUCCESS}')
"""

# Return the encryption key of a request, which is a secret.
ENCRYPTION_KEY = "SELECT encryption_key FROM {job_request} WHERE tag = %(tag)s AND request_id = %(request_id)s"

# Before the duplicates of this run are marked again, clear the previous marks.
CLEAR_DUPLICATES = "UPDATE {ledger}.claim SET duplicate_of = NULL WHERE run_id = %(run_id)s AND released_at IS NULL"

# Let a request share the outcome of another request for the same file.
MARK_DUPLICATE = """
UPDATE {ledger}.claim SET duplicate_of = %(duplicate_of)s
WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s
"""

# Record a published batch as done.
COMPLETE_BATCH = """
UPDATE {ledger}.batch_run SET
  stage = '{stage.MARK_COMPLETE}', state = '{state.DONE}', size_bytes = %(size_bytes)s, object_key = %(object_key)s, error = NULL,
  changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s AND run_id = %(run_id)s
"""

# Count the batches of a request that this run has not finished.
UNFINISHED_BATCHES = """
SELECT count(*) FROM {ledger}.batch_run
WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s AND state <> '{state.DONE}'
"""

# Add a finished batch to a request that still has unfinished ones.
SET_PROCESSED = """
UPDATE {job_request} j SET processed_batches = %(processed)s
FROM {ledger}.claim c
WHERE j.tag = %(tag)s AND j.request_id = %(request_id)s
  AND c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
"""

# The next three end the work of a run on a request and on its duplicates. None changes a row whose claim was lost. Where
# execution_time is an integer, it can hold 24 days.

# Complete a request.
SUCCEED = """
UPDATE {job_request} j SET status = '{status.SUCCESS}', download_urls = %(urls)s, processed_batches = %(processed)s,
  err_message = NULL, dt_file_created = now() AT TIME ZONE 'utc', dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = least(extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000, 2147483647)
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.duplicate_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

# Fail a request, and count one failed attempt per run.
FAIL = """
UPDATE {job_request} j SET status = '{status.FAILED}', err_message = %(message)s, processed_batches = %(processed)s,
  dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = least(extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000, 2147483647),
  iteration = coalesce(iteration, 0) + CASE WHEN c.failure_counted THEN 0 ELSE 1 END
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.duplicate_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

# Put a request back to SUBMITTED, for the next run.
REQUEUE = """
UPDATE {job_request} j SET status = '{status.SUBMITTED}'
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.duplicate_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

# Release the claim of a request that has ended, and those of its duplicates.
RELEASE = """
UPDATE {ledger}.claim SET released_at = now(), outcome = %(outcome)s,
  failure_counted = failure_counted OR %(outcome)s = '{outcome.FAILED}'
WHERE run_id = %(run_id)s AND released_at IS NULL
  AND (tag = %(tag)s AND request_id = %(request_id)s OR duplicate_of = %(request_id)s)
"""

# Count the requests of this run by outcome, duplicates apart.
OUTCOMES = """
SELECT coalesce(outcome, 'held'), duplicate_of IS NOT NULL, count(*)
FROM {ledger}.claim WHERE run_id = %(run_id)s GROUP BY 1, 2
"""
