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

# Tell whether a word of a text starts with a value, in upper or lower case.
_HAS_WORD = "position(' ' || lower(%(NAME)s) IN ' ' || lower(COLUMN)) > 0"

# A text of JSON, and a text or a list: the value of one of these keys.
_TEXT = r'"([^"\\]|\\.)*"'
_VALUE = rf'"(KEYS)"\s*:\s*({_TEXT}|\[([^]"]|{_TEXT})*\])'

# Tell whether a run has listed a batch of the request whose id or name starts with a value, or whether the request's data, which
# should be JSON, names an id that does.
_HAS_BATCH = """
EXISTS (
  SELECT FROM {ledger}.batch_run b
  WHERE b.tag = l.tag AND b.request_id = l.request_id AND l.run_id IN ('', b.run_id)
    AND (starts_with(lower(b.KIND_id), lower(%(NAME)s)) OR HAS_WORD))
OR EXISTS (
  SELECT FROM regexp_matches(request_data, 'VALUE', 'g') AS found (ids)
  WHERE position(left(lower(to_json(%(NAME)s::text)::text), -1) IN lower(ids[2])) > 0)
""".replace("HAS_WORD", _HAS_WORD.replace("COLUMN", "b.KIND_name")).replace("VALUE", _VALUE)
_HAS_NAMED_BATCH = _HAS_BATCH.replace("KIND", "batch").replace("KEYS", "batchId|batchFilter")
_HAS_COLLECTION = _HAS_BATCH.replace("KIND", "collection").replace("KEYS", "identifier")

# The other columns that are shown of a request `l`. Its processed_batches may be of any type. Long data is not read.
_DETAILS = """
SELECT tag, request_id, l.run_id, status, channel, submitted_at, completed_at, failures, error,
  (SELECT processed_batches::text FROM {job_request} j
    WHERE j.tag = l.tag AND j.request_id = l.request_id AND l.run_id = '') AS processed_batches,
  (SELECT CASE WHEN octet_length(j.request_data::text) < 20000 THEN j.request_data::text END FROM {job_request} j
    WHERE j.tag = l.tag AND j.request_id = l.request_id AND l.run_id = '') AS request_data,
  claim.run_id AS claim_run_id, coalesce(claim.held, false) AS held, coalesce(claim.duplicate_of, '') AS duplicate_of,
  coalesce(claim.permanent, false) AS permanent,
  claim.installation AS claim_installation, claim.claimed_at AT TIME ZONE 'utc' AS claimed_at,
  coalesce(claim.installation = %(installation)s OR claim.installation = '' AND NOT claim.held, true) AS is_ours, found
FROM (CHOSEN) l
LEFT JOIN LATERAL (
  SELECT c.run_id, c.released_at IS NULL AS held, c.permanent, c.duplicate_of, c.installation, c.claimed_at FROM {ledger}.claim c
  WHERE c.tag = l.tag AND c.request_id = l.request_id ORDER BY claimed_at DESC LIMIT 1
) claim ON true
ORDER BY place
"""

# What the list is sorted by, as a text.
_SORT_KEY = """(CASE %(sort)s WHEN 'finished' THEN to_char(completed_at, 'YYYYMMDDHH24MISSUS') WHEN 'status' THEN status
  WHEN 'org' THEN channel ELSE to_char(submitted_at, 'YYYYMMDDHH24MISSUS') END) COLLATE "C"
"""
_ORDER = """
CASE WHEN %(ascending)s THEN SORT_KEY END, CASE WHEN NOT %(ascending)s THEN SORT_KEY END DESC NULLS LAST,
  submitted_at DESC NULLS LAST, request_id, tag, run_id
""".replace("SORT_KEY", _SORT_KEY)

# Return one page of requests. Each text of the filter is the start of an id or of a word of a name.
LIST = _LISTED + _DETAILS.replace(
    "CHOSEN",
    """
  SELECT *, count(*) OVER () AS found, row_number() OVER (ORDER BY ORDERED) AS place FROM listed l
  WHERE (%(status)s = '' OR status = %(status)s)
    AND (%(channel)s = '' OR starts_with(lower(channel), lower(%(channel)s)))
    AND (%(request)s = '' OR starts_with(lower(request_id), lower(%(request)s)) OR starts_with(lower(run_id), lower(%(request)s)))
    AND (%(submitted_from)s = '' OR submitted_at >= nullif(%(submitted_from)s, '')::timestamp)
    AND (%(submitted_before)s = '' OR submitted_at < nullif(%(submitted_before)s, '')::timestamp)
    AND (%(batch)s = '' OR """.replace("ORDERED", _ORDER)
    + _HAS_NAMED_BATCH.replace("NAME", "batch")
    + """)
    AND (%(collection)s = '' OR """
    + _HAS_COLLECTION.replace("NAME", "collection")
    + """)
    AND (%(text)s = '' OR starts_with(lower(request_id), lower(%(text)s)) OR starts_with(lower(run_id), lower(%(text)s))
      OR starts_with(lower(channel), lower(%(text)s)) OR """
    + _HAS_WORD.replace("COLUMN", "error").replace("NAME", "text")
    + " OR "
    + _HAS_NAMED_BATCH.replace("NAME", "text")
    + " OR "
    + _HAS_COLLECTION.replace("NAME", "text")
    + """)
  ORDER BY place
  LIMIT %(most)s OFFSET %(skip)s
""",
)

# Return one request, or one standalone run.
ONE = _LISTED + _DETAILS.replace(
    "CHOSEN",
    "SELECT *, 1 AS found, 1 AS place FROM listed WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s",
)

# Return the batches of these requests, each as its last run recorded it; those of a standalone run from that run. A request may
# have lost batches since then: the last list of its batches says which ones it has.
BATCHES = """
SELECT DISTINCT ON (b.tag, b.request_id, standalone_run, batch_id)
  b.tag, b.request_id, CASE WHEN b.request_id = '' THEN run_id ELSE '' END AS standalone_run, batch_id, run_id, collection_id,
  collection_name, batch_name, stage, state, counts, seconds, size_bytes, object_key, sha256, protection_level, error,
  listed_at, changed_at,
  b.installation IN ('', %(installation)s) AS is_ours,
  coalesce(cardinality(batch_ids), 0) = 0 OR batch_id = ANY(batch_ids) AS is_listed
FROM unnest(%(tags)s::text[], %(ids)s::text[], %(runs)s::text[]) AS wanted (tag, request_id, only_run)
LEFT JOIN LATERAL (
  SELECT c.batch_ids FROM {ledger}.claim c
  WHERE c.tag = wanted.tag AND c.request_id = wanted.request_id ORDER BY claimed_at DESC LIMIT 1
) claim ON true
JOIN {ledger}.batch_run b ON b.tag = wanted.tag AND b.request_id = wanted.request_id AND only_run IN ('', b.run_id)
WHERE b.request_id <> '' OR %(installation)s IN ('', b.installation)
ORDER BY b.tag, b.request_id, standalone_run, batch_id, listed_at DESC
"""

# Return the last claims on a request, the newest first.
CLAIMS = """
SELECT run_id, claimed_at, released_at, outcome, installation,
  installation IN ('', %(installation)s) AS is_ours
FROM {ledger}.claim WHERE tag = %(tag)s AND request_id = %(request_id)s ORDER BY claimed_at DESC LIMIT 20
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
