"""Statements on Postgres that release claims: of ended runs, of deleted requests, and by a person.

A transaction that changes a claim locks the request's row in job_request first.
"""

from progress_exhaust.sql.claims import OF_THIS_SITE

# Return the claims of ended runs that no run of this site will ever take again: the row was deleted or has ended, or this
# site does not process this part of the queue. In addition, return whether the row is still PROCESSING.
ORPHANED = """
SELECT c.tag, c.request_id, coalesce(j.job_id = '{job_id}' AND j.status = '{status.PROCESSING}', false)
FROM {ledger}.claim c LEFT JOIN {job_request} j ON j.tag = c.tag AND j.request_id = c.request_id
WHERE c.released_at IS NULL AND c.installation = %(installation)s AND c.run_id = ANY(%(ended_runs)s)
  AND (OF_THIS_SITE
    AND (j.status IN ('{status.SUBMITTED}', '{status.PROCESSING}')
      OR j.status = '{status.FAILED}' AND coalesce(j.iteration, 0) < {max_failures})
    ) IS NOT TRUE
ORDER BY c.tag, c.request_id
""".replace("OF_THIS_SITE", OF_THIS_SITE)

# Return the claims of ended runs that a late task still uses to publish: the next run takes them.
STILL_PUBLISHING = """
WITH free AS (
  SELECT tag, request_id, run_id FROM {ledger}.claim
  WHERE released_at IS NULL AND installation = %(installation)s AND run_id = ANY(%(ended_runs)s)
    AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  FOR UPDATE SKIP LOCKED)
SELECT tag, request_id FROM {ledger}.claim
WHERE released_at IS NULL AND installation = %(installation)s AND run_id = ANY(%(ended_runs)s)
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  AND (tag, request_id, run_id) NOT IN (SELECT tag, request_id, run_id FROM free)
"""

# Count the attempt of an ended run as a failed one, once.
COUNT_LOST_ATTEMPTS = """
UPDATE {job_request} j SET iteration = coalesce(iteration, 0) + 1
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.released_at IS NULL
  AND c.installation = %(installation)s AND c.run_id = ANY(%(ended_runs)s)
  AND NOT c.failure_counted
  AND (j.tag, j.request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Release the claims of ended runs.
RELEASE_LOST = """
UPDATE {ledger}.claim SET released_at = now(), outcome = '{outcome.LOST}', failure_counted = true
WHERE released_at IS NULL AND installation = %(installation)s AND run_id = ANY(%(ended_runs)s)
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
RETURNING run_id, tag, request_id
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

# Put requests whose run was lost back to SUBMITTED.
REQUEUE_LOST = """
UPDATE {job_request} SET status = '{status.SUBMITTED}'
WHERE status = '{status.PROCESSING}' AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Release the claims of this run on requests whose rows were deleted.
RELEASE_DELETED = """
UPDATE {ledger}.claim c SET released_at = now(), outcome = '{outcome.LOST}'
WHERE c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND NOT EXISTS (SELECT FROM {job_request} j WHERE j.tag = c.tag AND j.request_id = c.request_id)
RETURNING tag, request_id
"""

# A request of this run is no longer a duplicate if the run does not hold the request whose outcome it shares.
CLEAR_LONELY_DUPLICATES = """
UPDATE {ledger}.claim c SET duplicate_of = NULL
WHERE c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL AND c.duplicate_of IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM {ledger}.claim shared
    WHERE shared.installation = c.installation AND shared.run_id = c.run_id AND shared.request_id = c.duplicate_of
      AND shared.released_at IS NULL)
"""

# Return who holds the requests with these ids.
HOLDERS_OF_IDS = """
SELECT tag, request_id, installation, run_id, claimed_at FROM {ledger}.claim
WHERE released_at IS NULL AND request_id = ANY(%(request_ids)s::text[])
ORDER BY tag, request_id
"""

# Lock a claim that a person releases, unless its run publishes a file at this moment.
LOCK_TO_RELEASE = """
SELECT FROM {ledger}.claim
WHERE tag = %(tag)s AND request_id = %(request_id)s AND installation = %(holder_installation)s AND run_id = %(holder_run_id)s
  AND released_at IS NULL
FOR UPDATE SKIP LOCKED
"""

# Lock the row of a request that a person cancels, and those of its duplicates in the run that holds it.
LOCK_TO_CANCEL = """
SELECT FROM {job_request} WHERE (tag, request_id) IN (
  SELECT %(tag)s, %(request_id)s
  UNION SELECT c.tag, c.request_id FROM {ledger}.claim c JOIN {ledger}.claim held
    ON held.installation = c.installation AND held.run_id = c.run_id AND held.request_id = c.duplicate_of
  WHERE held.tag = %(tag)s AND held.request_id = %(request_id)s AND held.released_at IS NULL AND c.released_at IS NULL)
ORDER BY tag, request_id FOR UPDATE
"""

# Return the claim of a request that says that it is cancelled: the newest one, if its run has not completed the request.
CLAIM_TO_CANCEL = """
SELECT installation, run_id FROM (
  SELECT installation, run_id, outcome FROM {ledger}.claim WHERE tag = %(tag)s AND request_id = %(request_id)s
  ORDER BY released_at IS NOT NULL, claimed_at DESC LIMIT 1) AS newest
WHERE outcome IS DISTINCT FROM '{outcome.SUCCESS}'
"""

# Wait a moment for a stage that writes a file.
LIMIT_WAIT = "SET LOCAL lock_timeout = '5s'"

# Lock the batches of a request in the run of this claim. A stage locks its batch while it writes, and then the claim if it
# publishes.
LOCK_BATCHES = """
SELECT FROM {ledger}.batch_run
WHERE tag = %(tag)s AND request_id = %(request_id)s AND installation = %(installation)s AND run_id = %(run_id)s
ORDER BY batch_id FOR UPDATE
"""

# End the claim on a request that a person cancels, or mark it as cancelled if it has ended.
CANCEL_CLAIM = """
UPDATE {ledger}.claim SET released_at = now(), outcome = '{outcome.CANCELLED}', permanent = true
WHERE tag = %(tag)s AND request_id = %(request_id)s AND installation = %(installation)s AND run_id = %(run_id)s
"""

# Reject the batches of the run that are not done. No attempt of a task is newer than these: a running stage may write nothing
# more.
CANCEL_BATCHES = """
UPDATE {ledger}.batch_run
SET state = '{state.REJECTED}', error = %(message)s, permanent = true, task_attempts = task_attempts || %(task_attempts)s::jsonb,
  changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND installation = %(installation)s AND run_id = %(run_id)s
  AND state <> '{state.DONE}'
"""

# Cancel a request that waits, or whose claim was just ended. It costs no attempt: its claim keeps runs from it.
CANCEL_REQUEST = """
UPDATE {job_request} SET status = '{status.FAILED}', err_message = %(message)s, dt_job_completed = now() AT TIME ZONE 'utc'
WHERE tag = %(tag)s AND request_id = %(request_id)s AND job_id = '{job_id}'
  AND (status = '{status.SUBMITTED}' OR %(held)s AND status = '{status.PROCESSING}')
"""

# Release the claims on the duplicates of a cancelled request, in the run that held it. No run makes their files any more.
RELEASE_DUPLICATES = """
UPDATE {ledger}.claim SET released_at = now(), outcome = '{outcome.RELEASED}', duplicate_of = NULL
WHERE installation = %(installation)s AND run_id = %(run_id)s AND duplicate_of = %(request_id)s AND released_at IS NULL
RETURNING tag, request_id
"""

# Release a claim on behalf of a person. It counts as no failed attempt.
RELEASE_HELD = """
UPDATE {ledger}.claim SET released_at = now(), outcome = '{outcome.RELEASED}'
WHERE tag = %(tag)s AND request_id = %(request_id)s AND installation = %(holder_installation)s AND run_id = %(holder_run_id)s
  AND released_at IS NULL
"""
