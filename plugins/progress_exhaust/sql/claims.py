"""Statements on Postgres about requests and claims: find and claim.

A transaction that changes a claim locks the request's row in job_request first. Every write to that row names the claim.
"""

# The part of the queue that this site processes. Some installations have no column batch_number: the name then means the null of
# `absent`.
IN_BATCH_NUMBER = """(%(batch_number)s::integer IS NULL OR EXISTS (
    SELECT FROM (SELECT NULL::integer AS batch_number) AS absent
    WHERE (SELECT batch_number FROM {job_request} same WHERE same.tag = j.tag AND same.request_id = j.request_id)
      = %(batch_number)s))"""

# The requests that this site processes.
OF_THIS_SITE = """job_id = '{job_id}'
  AND IN_BATCH_NUMBER
  AND (%(channels)s::text[] IS NULL OR requested_channel = ANY(%(channels)s))""".replace("IN_BATCH_NUMBER", IN_BATCH_NUMBER)

# What a run may work on: requests that wait, and those that failed fewer than three times; one that failed with a permanent error
# only if it is named, or submitted again, and one that a person has cancelled only if it is submitted again. Requests that are
# PROCESSING too, if the run that holds them has ended, or if no run of ours holds them and they were submitted long ago. `force`
# adds finished requests: those that are named, otherwise those of the day. A later run of a chain takes a request that the chain
# has claimed before only if a limit deferred a batch of it. Else the chain would use up the attempts of a request within minutes.
_PENDING = """
OF_THIS_SITE
  AND (%(request_ids)s::text[] IS NULL OR request_id = ANY(%(request_ids)s))
  AND (%(submitted_before)s::timestamp IS NULL OR dt_job_submitted < %(submitted_before)s)
  AND (%(first_run)s::text IS NULL OR NOT EXISTS (
    SELECT FROM {ledger}.claim c
    WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.installation = %(installation)s AND c.run_id <> %(run_id)s
      AND (c.run_id = %(first_run)s OR starts_with(c.run_id, 'next__') AND right(c.run_id, length(%(first_run)s)) = %(first_run)s)
      AND NOT EXISTS (
        SELECT FROM {ledger}.batch_run b
        WHERE b.tag = c.tag AND b.request_id = c.request_id AND b.installation = c.installation AND b.run_id = c.run_id
          AND b.state = '{state.DEFERRED}')))
  AND (status = '{status.SUBMITTED}'
    OR status = '{status.FAILED}' AND coalesce(iteration, 0) < {max_failures}
      AND NOT coalesce((
        SELECT c.permanent AND (%(request_ids)s::text[] IS NULL OR c.outcome = '{outcome.CANCELLED}') FROM {ledger}.claim c
        WHERE c.tag = j.tag AND c.request_id = j.request_id ORDER BY claimed_at DESC LIMIT 1), false)
    OR %(force)s AND status IN ('{status.SUCCESS}', '{status.FAILED}') AND (%(request_ids)s::text[] IS NOT NULL OR EXISTS (
      SELECT FROM unnest(download_urls) AS url WHERE right(url, length(%(day_ending)s)) = %(day_ending)s))
    OR status = '{status.PROCESSING}' AND EXISTS (
      SELECT FROM {ledger}.claim c
      WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL
        AND installation = %(installation)s AND run_id = ANY(%(ended_runs)s))
    OR status = '{status.PROCESSING}' AND dt_job_submitted < %(abandoned_before)s AND NOT EXISTS (
      SELECT FROM {ledger}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL))
""".replace("OF_THIS_SITE", OF_THIS_SITE)

# The orgs get one request each in turn, the oldest first: many requests of one org delay no other org. Requests that failed
# before come after the others of their org: an error that only an engineer can correct keeps no new request from its turn.
_IN_TURN = """
FROM {job_request} j JOIN (
  SELECT tag, request_id, row_number() OVER (
    PARTITION BY requested_channel ORDER BY status = '{status.FAILED}', dt_job_submitted, request_id) AS turn
  FROM {job_request} j WHERE PENDING) AS waiting USING (tag, request_id)
WHERE PENDING ORDER BY turn, dt_job_submitted, request_id LIMIT %(most)s
""".replace("PENDING", _PENDING)

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
"""
    + _IN_TURN
)

# Return the ids of all requests that a run may claim, without a limit.
PENDING_IDS = "SELECT request_id FROM {job_request} j WHERE " + _PENDING + " ORDER BY dt_job_submitted, request_id"

# Return the rows of the named requests, also those of another job, with what may keep this run from claiming them.
NAMED = """
SELECT request_id, job_id, status, coalesce(iteration, 0) AS failures, requested_channel AS channel,
  %(channels)s::text[] IS NULL OR coalesce(requested_channel = ANY(%(channels)s), false) AS in_channels,
  IN_BATCH_NUMBER AS in_batch_number,
  %(submitted_before)s::timestamp IS NULL OR coalesce(dt_job_submitted < %(submitted_before)s, false) AS in_time,
  EXISTS (
    SELECT FROM {ledger}.claim c
    WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.installation = %(installation)s AND c.run_id = %(run_id)s
  ) AS claimed_by_this_run,
  coalesce((
    SELECT c.outcome = '{outcome.CANCELLED}' FROM {ledger}.claim c
    WHERE c.tag = j.tag AND c.request_id = j.request_id ORDER BY claimed_at DESC LIMIT 1), false) AS cancelled
FROM {job_request} j WHERE request_id = ANY(%(request_ids)s::text[]) ORDER BY request_id, tag
""".replace("IN_BATCH_NUMBER", IN_BATCH_NUMBER)

# Return the requests whose request_id another row has, too: their files would have the same names. The row with files keeps
# the request_id, else the one that was submitted earlier. A row that was rejected, and not submitted again, keeps nothing.
WITH_OLDER_REQUEST = """
SELECT j.tag, j.request_id FROM {job_request} j
WHERE (j.tag, j.request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  AND EXISTS (
    SELECT FROM {job_request} o
    WHERE o.request_id = j.request_id AND o.tag <> j.tag AND o.job_id = '{job_id}'
      AND (coalesce(cardinality(o.download_urls), 0) = 0, coalesce(o.dt_job_submitted, 'infinity'), o.tag)
        < (coalesce(cardinality(j.download_urls), 0) = 0, coalesce(j.dt_job_submitted, 'infinity'), j.tag)
      AND NOT (o.status = '{status.FAILED}' AND coalesce(cardinality(o.download_urls), 0) = 0 AND coalesce((
        SELECT c.permanent FROM {ledger}.claim c
        WHERE c.tag = o.tag AND c.request_id = o.request_id ORDER BY claimed_at DESC LIMIT 1), false)))
"""

# Submit a request, as the exhaust API does.
SUBMIT = """
INSERT INTO {job_request} (tag, request_id, job_id, status, request_data, requested_by, requested_channel, dt_job_submitted,
  iteration)
VALUES (%(tag)s, %(request_id)s, '{job_id}', '{status.SUBMITTED}', %(data)s, %(by)s, %(channel)s, now() AT TIME ZONE 'utc', 0)
"""

# The same, for one part of the queue.
SUBMIT_WITH_BATCH_NUMBER = SUBMIT.replace("iteration)", "iteration, batch_number)").replace(", 0)", ", 0, %(batch_number)s)")

# Return the other runs of this installation that hold a request. Airflow decides whether they are still active.
HOLDING_RUNS = """
SELECT DISTINCT run_id FROM {ledger}.claim
WHERE released_at IS NULL AND installation = %(installation)s AND run_id <> %(run_id)s
"""

# Lock the requests to claim until the claim is written; skip what another run is claiming at this moment.
LOCK_PENDING = "SELECT tag, request_id" + _IN_TURN + " FOR UPDATE OF j SKIP LOCKED"

# Let a run that was deleted in Airflow, and created there again with the same id, count its attempts from 1.
RESET_LIST_ATTEMPT = """
UPDATE {ledger}.batch_run SET task_attempts = task_attempts - '{stage.LIST_BATCHES}'
WHERE installation = %(installation)s AND run_id = %(run_id)s
"""

# Claim the requests that no run holds. Their rows are locked, so that no other run can claim them meanwhile.
TAKE = """
INSERT INTO {ledger}.claim (tag, request_id, installation, run_id)
SELECT tag, request_id, %(installation)s, %(run_id)s FROM unnest(%(tags)s::text[], %(ids)s::text[]) AS wanted (tag, request_id)
WHERE NOT EXISTS (
  SELECT FROM {ledger}.claim c
  WHERE c.tag = wanted.tag AND c.request_id = wanted.request_id AND released_at IS NULL)
  AND EXISTS (SELECT FROM {job_request} j WHERE j.tag = wanted.tag AND j.request_id = wanted.request_id)
ON CONFLICT (tag, request_id, installation, run_id) DO UPDATE
  SET released_at = NULL, outcome = NULL, permanent = false, claimed_at = now()
RETURNING tag, request_id
"""

# Before a forced run makes its requests again, forget the packages of previous runs: only what is made from now on counts.
FORGET_PACKAGES = """
UPDATE {job_request} SET processed_batches = NULL, download_urls = NULL
WHERE (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
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
WHERE c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (%(duplicates)s OR c.duplicate_of IS NULL)
ORDER BY j.dt_job_submitted, j.request_id
"""

# Return those of these requests that have a row and are held by this run.
HELD_KEYS = """
SELECT j.tag, j.request_id FROM {job_request} j JOIN {ledger}.claim c ON c.tag = j.tag AND c.request_id = j.request_id
WHERE c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (j.tag, j.request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Return the runs that hold these requests.
HOLDERS = """
SELECT tag, request_id, installation, run_id, claimed_at FROM {ledger}.claim
WHERE released_at IS NULL AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
ORDER BY tag, request_id
"""

# No person has cancelled the request of a claim since that claim was released, or by releasing it.
_NOT_CANCELLED = """NOT EXISTS (
    SELECT FROM {ledger}.claim cancelled
    WHERE cancelled.tag = c.tag AND cancelled.request_id = c.request_id AND cancelled.outcome = '{outcome.CANCELLED}'
      AND cancelled.released_at >= c.released_at)"""

# Return what this run held and did not complete. Its cleared tasks claim it again, unless another run has completed it
# since, or a person has released or cancelled it.
UNFINISHED_CLAIMS = """
SELECT tag, request_id FROM {ledger}.claim c
WHERE installation = %(installation)s AND run_id = %(run_id)s AND released_at IS NOT NULL
  AND outcome <> '{outcome.SUCCESS}' AND outcome <> '{outcome.RELEASED}' AND NOT_CANCELLED
  AND NOT EXISTS (
    SELECT FROM {job_request} j WHERE j.tag = c.tag AND j.request_id = c.request_id AND j.status = '{status.SUCCESS}')
ORDER BY tag, request_id
""".replace("NOT_CANCELLED", _NOT_CANCELLED)

# Return a request of this run and its duplicates, for a rerun of one batch, unless another run has completed them since, or a
# person has released or cancelled them.
CLAIMS_OF_BATCH = """
SELECT tag, request_id FROM {ledger}.claim c
WHERE installation = %(installation)s AND run_id = %(run_id)s
  AND (tag = %(tag)s AND request_id = %(request_id)s OR duplicate_of = %(request_id)s)
  AND outcome IS DISTINCT FROM '{outcome.RELEASED}' AND NOT_CANCELLED
  AND NOT EXISTS (
    SELECT FROM {ledger}.claim later JOIN {job_request} j USING (tag, request_id)
    WHERE later.tag = c.tag AND later.request_id = c.request_id AND j.status = '{status.SUCCESS}'
      AND later.outcome = '{outcome.SUCCESS}'
      AND (later.installation, later.run_id) <> (c.installation, c.run_id) AND later.released_at > c.released_at)
ORDER BY tag, request_id
""".replace("NOT_CANCELLED", _NOT_CANCELLED)

# Tell whether this run has ever held a request that it has not completed.
HAS_UNFINISHED = """
SELECT EXISTS (
  SELECT FROM {ledger}.claim c
  WHERE installation = %(installation)s AND run_id = %(run_id)s
    AND coalesce(outcome, '') NOT IN ('{outcome.SUCCESS}', '{outcome.RELEASED}') AND NOT_CANCELLED)
""".replace("NOT_CANCELLED", _NOT_CANCELLED)

# Return the encryption key of a request, which is a secret.
ENCRYPTION_KEY = "SELECT encryption_key FROM {job_request} WHERE tag = %(tag)s AND request_id = %(request_id)s"

# Before the duplicates of this run are marked again, clear the previous marks.
CLEAR_DUPLICATES = """
UPDATE {ledger}.claim SET duplicate_of = NULL
WHERE installation = %(installation)s AND run_id = %(run_id)s AND released_at IS NULL
"""

# Let a request share the outcome of another request for the same file.
MARK_DUPLICATE = """
UPDATE {ledger}.claim SET duplicate_of = %(duplicate_of)s
WHERE tag = %(tag)s AND request_id = %(request_id)s AND installation = %(installation)s AND run_id = %(run_id)s
"""

# Note all batches of a request, in its order.
SET_BATCH_IDS = """
UPDATE {ledger}.claim SET batch_ids = %(batch_ids)s
WHERE tag = %(tag)s AND request_id = %(request_id)s AND installation = %(installation)s AND run_id = %(run_id)s
"""

# Return what this run has claimed and released: the id, the outcome, and whether an error of it is permanent.
RELEASED_BY_RUN = """
SELECT request_id, outcome, permanent FROM {ledger}.claim
WHERE installation = %(installation)s AND run_id = %(run_id)s AND released_at IS NOT NULL
"""

# Count the requests of this run by outcome, duplicates apart.
OUTCOMES = """
SELECT coalesce(outcome, 'held'), duplicate_of IS NOT NULL, count(*)
FROM {ledger}.claim WHERE installation = %(installation)s AND run_id = %(run_id)s GROUP BY 1, 2
"""
