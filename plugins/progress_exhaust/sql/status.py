"""Statements on Postgres that only read: the state of the requests, for the page and the command line.

Standalone runs are those of this installation, whose id is a value of each statement; empty: of all installations.
They do not read requested_by, encryption_key and download_urls: they are not needed to show the state.
"""

# A date that Python cannot hold becomes null: one such row would make the whole list fail.
_MOMENT = "CASE WHEN COLUMN BETWEEN '0001-01-02' AND '9999-12-30' THEN COLUMN END"
_SUBMITTED_AT = _MOMENT.replace("COLUMN", "dt_job_submitted")
_COMPLETED_AT = _MOMENT.replace("COLUMN", "dt_job_completed")

# All requests, and the standalone runs. Those have no row in job_request: the ledger's batches of the run replace it.
_LISTED = f"""
WITH listed AS (
  SELECT tag, request_id, '' AS run_id, status, requested_channel AS channel, {_SUBMITTED_AT} AS submitted_at,
    {_COMPLETED_AT} AS completed_at, coalesce(iteration, 0) AS failures, err_message AS error,
    request_data::text AS request_data
  FROM {{job_request}}
  WHERE job_id = '{{job_id}}'
  UNION ALL
  SELECT '', '', run_id,
    CASE WHEN bool_and(state = '{{state.DONE}}') THEN '{{status.SUCCESS}}'
      WHEN bool_or(state IN ('{{state.WAITING}}', '{{state.RUNNING}}')) THEN '{{status.PROCESSING}}' ELSE '{{status.FAILED}}' END,
    '', min(listed_at) AT TIME ZONE 'utc',
    CASE WHEN NOT bool_or(state IN ('{{state.WAITING}}', '{{state.RUNNING}}')) THEN max(changed_at) AT TIME ZONE 'utc' END,
    0, NULL, ''
  FROM {{ledger}}.batch_run
  WHERE tag = '' AND request_id = '' AND %(installation)s IN ('', installation)
  GROUP BY run_id
)
"""

# Tell whether a run has listed a batch of the request, or whether the request names it.
_HAS_BATCH = """
EXISTS (
  SELECT FROM {ledger}.batch_run b
  WHERE b.COLUMN = %(NAME)s AND b.tag = l.tag AND b.request_id = l.request_id AND l.run_id IN ('', b.run_id))
OR position(to_json(%(NAME)s::text)::text IN request_data) > 0
"""

# The other columns that are shown of a request `l`. Its processed_batches may be of any type.
_DETAILS = """
SELECT tag, request_id, l.run_id, status, channel, submitted_at, completed_at, failures, error,
  (SELECT processed_batches::text FROM {job_request} j
    WHERE j.tag = l.tag AND j.request_id = l.request_id AND l.run_id = '') AS processed_batches,
  claim.run_id AS claim_run_id, coalesce(claim.held, false) AS held, coalesce(claim.duplicate_of, '') AS duplicate_of,
  coalesce(claim.permanent, false) AS permanent,
  claim.installation AS claim_installation, claim.claimed_at AT TIME ZONE 'utc' AS claimed_at,
  coalesce(claim.installation = %(installation)s OR claim.installation = '' AND NOT claim.held, true) AS is_ours, found
FROM (CHOSEN) l
LEFT JOIN LATERAL (
  SELECT c.run_id, c.released_at IS NULL AS held, c.permanent, c.duplicate_of, c.installation, c.claimed_at FROM {ledger}.claim c
  WHERE c.tag = l.tag AND c.request_id = l.request_id ORDER BY claimed_at DESC LIMIT 1
) claim ON true
ORDER BY submitted_at DESC NULLS LAST, request_id, tag, l.run_id
"""

# Return one page of requests, the newest first. A batch or collection is found in the lists of runs and in the request's data.
LIST = _LISTED + _DETAILS.replace(
    "CHOSEN",
    """
  SELECT *, count(*) OVER () AS found FROM listed l
  WHERE (%(status)s = '' OR status = %(status)s)
    AND (%(channel)s = '' OR channel = %(channel)s)
    AND (%(request)s = '' OR starts_with(request_id, %(request)s) OR starts_with(run_id, %(request)s))
    AND (%(batch)s = '' OR """
    + _HAS_BATCH.replace("COLUMN", "batch_id").replace("NAME", "batch")
    + """)
    AND (%(collection)s = '' OR """
    + _HAS_BATCH.replace("COLUMN", "collection_id").replace("NAME", "collection")
    + """)
  ORDER BY submitted_at DESC NULLS LAST, request_id, tag, run_id
  LIMIT %(most)s OFFSET %(skip)s
""",
)

# Return one request, or one standalone run.
ONE = _LISTED + _DETAILS.replace(
    "CHOSEN",
    "SELECT *, 1 AS found FROM listed WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s",
)

# Return the batches of these requests, each as its last run recorded it; those of a standalone run from that run.
BATCHES = """
SELECT DISTINCT ON (b.tag, b.request_id, standalone_run, batch_id)
  b.tag, b.request_id, CASE WHEN b.request_id = '' THEN run_id ELSE '' END AS standalone_run, batch_id, run_id, collection_id,
  stage, state, counts, seconds, size_bytes, object_key, error, listed_at, changed_at,
  b.installation IN ('', %(installation)s) AS is_ours
FROM {ledger}.batch_run b
JOIN unnest(%(tags)s::text[], %(ids)s::text[], %(runs)s::text[]) AS wanted (tag, request_id, only_run)
  ON b.tag = wanted.tag AND b.request_id = wanted.request_id AND only_run IN ('', b.run_id)
WHERE b.request_id <> '' OR %(installation)s IN ('', b.installation)
ORDER BY b.tag, b.request_id, standalone_run, batch_id, listed_at DESC
"""

# Count the requests per status.
TALLY = f"""
SELECT status, count(*) AS requests, min({_SUBMITTED_AT}) AS oldest_at
FROM {{job_request}} WHERE job_id = '{{job_id}}' AND status IS NOT NULL GROUP BY status
"""

# Sum up each of the last days. Requests and failures are counted from claims: a request that is rejected at once has no batch.
# Learners and seconds are counted from batches.
NIGHTS = """
WITH night AS (
  SELECT generate_series(today - %(nights)s + 1, today, '1 day')::date AS day
  FROM (SELECT (now() AT TIME ZONE %(zone)s)::date AS today) AS t
), claims AS (
  SELECT (claimed_at AT TIME ZONE %(zone)s)::date AS day, count(*) AS requests,
    count(*) FILTER (WHERE outcome IN ('{outcome.FAILED}', '{outcome.LOST}')) AS failures
  FROM {ledger}.claim WHERE claimed_at > now() - make_interval(days => %(nights)s + 1) GROUP BY 1
), batches AS (
  SELECT (listed_at AT TIME ZONE %(zone)s)::date AS day,
    sum((counts ->> 'reported')::bigint) FILTER (WHERE state = '{state.DONE}') AS learners,
    sum((SELECT sum(value::float) FROM jsonb_each_text(seconds))) AS seconds
  FROM {ledger}.batch_run WHERE listed_at > now() - make_interval(days => %(nights)s + 1) GROUP BY 1
)
SELECT day, coalesce(requests, 0) AS requests, coalesce(learners, 0)::bigint AS learners,
  coalesce(seconds, 0)::float AS seconds, coalesce(failures, 0) AS failures
FROM night LEFT JOIN claims USING (day) LEFT JOIN batches USING (day)
ORDER BY day
"""
