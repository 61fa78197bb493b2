"""Statements on Postgres: job_request, and our own claims and ledger beside it.

`{job_request}` and `{ledger}` stand for the quoted table and schema of the settings. Whoever changes a claim locks the
request's row in job_request first; every write to that row names the claim.
"""

# job_request's columns that we read or write, by the type that a missing one is added with.
JOB_REQUEST_COLUMNS = {
    "tag": "text",
    "request_id": "text",
    "job_id": "text",
    "status": "text",
    "request_data": "json",
    "requested_by": "text",
    "requested_channel": "text",
    "dt_job_submitted": "timestamp",
    "download_urls": "text[]",
    "dt_file_created": "timestamp",
    "dt_job_completed": "timestamp",
    "execution_time": "bigint",
    "err_message": "text",
    "iteration": "integer",
    "encryption_key": "text",
    "batch_number": "integer",
    "processed_batches": "jsonb",
}

# Each column of a table, and the longest text that it takes (null: any).
TABLE_COLUMNS = """
SELECT attname, CASE WHEN atttypid = 'varchar'::regtype AND atttypmod > 4 THEN atttypmod - 4 END
FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
"""

LEDGER_EXISTS = "SELECT to_regclass(%(claim)s) IS NOT NULL AND to_regclass(%(batch_run)s) IS NOT NULL"

# Run once; two first runs at the same time wait for each other.
CREATE_LEDGER = """
SELECT pg_advisory_xact_lock(hashtext('progress_exhaust ledger'));
CREATE SCHEMA IF NOT EXISTS {ledger};
CREATE TABLE IF NOT EXISTS {ledger}.claim (
  tag text NOT NULL,
  request_id text NOT NULL,
  run_id text NOT NULL,
  twin_of text,                                  -- request_id of the request whose outcome this one gets
  claimed_at timestamptz NOT NULL DEFAULT now(),
  released_at timestamptz,                       -- null while the run holds the request
  outcome text,                                  -- SUCCESS, FAILED, SUBMITTED (given back) or died
  failure_counted boolean NOT NULL DEFAULT false, -- this run has added its 1 to iteration
  PRIMARY KEY (tag, request_id, run_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS claim_held_once ON {ledger}.claim (tag, request_id) WHERE released_at IS NULL;
CREATE TABLE IF NOT EXISTS {ledger}.batch_run (
  tag text NOT NULL,
  request_id text NOT NULL,
  batch_id text NOT NULL,
  run_id text NOT NULL,
  collection_id text NOT NULL,
  stage text NOT NULL DEFAULT 'list_batches',
  state text NOT NULL DEFAULT 'waiting',         -- waiting, running, done, refused (the request's fault), failed
  counts jsonb NOT NULL DEFAULT '{{}}',
  seconds jsonb NOT NULL DEFAULT '{{}}',         -- by stage
  size_bytes bigint,                             -- of the package
  object_key text,
  error text,
  listed_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tag, request_id, batch_id, run_id)
);
CREATE INDEX IF NOT EXISTS batch_run_of_run ON {ledger}.batch_run (run_id);
"""

COUNT_PENDING = """
SELECT count(*) FROM {job_request}
WHERE job_id = 'progress-exhaust' AND (status = 'SUBMITTED' OR status = 'FAILED' AND coalesce(iteration, 0) < 3)
  AND (%(request_ids)s::text[] IS NULL OR request_id = ANY(%(request_ids)s))
"""

# Runs, other than ours, that hold a request: whether they still live is Airflow's to say.
HOLDING_RUNS = "SELECT DISTINCT run_id FROM {ledger}.claim WHERE released_at IS NULL AND run_id <> %(run_id)s"

# What may be claimed, locked until the claim is written; another run's claim in the making is skipped, not waited for.
LOCK_PENDING = """
SELECT tag, request_id FROM {job_request} j
WHERE job_id = 'progress-exhaust'
  AND (%(request_ids)s::text[] IS NULL OR request_id = ANY(%(request_ids)s))
  AND (status = 'SUBMITTED'
    OR status = 'FAILED' AND coalesce(iteration, 0) < 3
    OR %(force)s AND status = 'SUCCESS' AND %(request_ids)s::text[] IS NOT NULL
    OR status = 'PROCESSING' AND EXISTS (
      SELECT FROM {ledger}.claim c
      WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL AND run_id = ANY(%(dead_runs)s)))
ORDER BY dt_job_submitted, request_id
LIMIT %(most)s
FOR UPDATE OF j SKIP LOCKED
"""

# A dead run's attempt is over; its requests are free.
RELEASE_DEAD = """
UPDATE {ledger}.claim SET released_at = now(), outcome = 'died'
WHERE released_at IS NULL AND run_id = ANY(%(dead_runs)s)
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Ours is what no living run holds; the rows are locked, so none can come to hold it meanwhile.
TAKE = """
INSERT INTO {ledger}.claim (tag, request_id, run_id)
SELECT tag, request_id, %(run_id)s FROM unnest(%(tags)s::text[], %(ids)s::text[]) AS wanted (tag, request_id)
WHERE NOT EXISTS (
  SELECT FROM {ledger}.claim c
  WHERE c.tag = wanted.tag AND c.request_id = wanted.request_id AND released_at IS NULL)
ON CONFLICT (tag, request_id, run_id) DO UPDATE SET released_at = NULL, outcome = NULL
RETURNING tag, request_id
"""

# A resubmission leaves the last outcome in the row: nobody may read it as this one's.
START = """
UPDATE {job_request} SET status = 'PROCESSING', err_message = NULL, dt_job_completed = NULL
WHERE (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

HELD = """
SELECT j.tag, j.request_id, j.request_data::text, j.requested_by, j.requested_channel, j.encryption_key,
  j.dt_job_submitted, j.processed_batches::text
FROM {job_request} j JOIN {ledger}.claim c ON c.tag = j.tag AND c.request_id = j.request_id
WHERE c.run_id = %(run_id)s AND c.released_at IS NULL AND (%(twins)s OR c.twin_of IS NULL)
ORDER BY j.dt_job_submitted, j.request_id
"""

PENDING = """
SELECT tag, request_id, request_data::text, requested_by, requested_channel, encryption_key, dt_job_submitted,
  processed_batches::text
FROM {job_request}
WHERE job_id = 'progress-exhaust'
  AND (status = 'SUBMITTED' OR status = 'FAILED' AND coalesce(iteration, 0) < 3
    OR %(force)s AND status = 'SUCCESS' AND %(request_ids)s::text[] IS NOT NULL)
  AND (%(request_ids)s::text[] IS NULL OR request_id = ANY(%(request_ids)s))
ORDER BY dt_job_submitted, request_id
LIMIT %(most)s
"""

MARK_TWIN = """
UPDATE {ledger}.claim SET twin_of = %(twin_of)s
WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s
"""

HOLDER = """
SELECT run_id FROM {ledger}.claim WHERE tag = %(tag)s AND request_id = %(request_id)s AND released_at IS NULL
"""

# Held until the transaction ends, however it does.
WAIT_IN_LINE = "SELECT pg_advisory_xact_lock(hashtextextended(%(work)s, 0))"

# Locks the row that every change of a claim locks first.
LOCK_REQUEST = """
SELECT processed_batches::text FROM {job_request} WHERE tag = %(tag)s AND request_id = %(request_id)s FOR UPDATE
"""

# A claim that is being used to publish cannot be taken over meanwhile.
PIN_CLAIM = """
SELECT FROM {ledger}.claim
WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s AND released_at IS NULL FOR SHARE
"""

LIST_BATCH = """
INSERT INTO {ledger}.batch_run (tag, request_id, batch_id, run_id, collection_id)
VALUES (%(tag)s, %(request_id)s, %(batch_id)s, %(run_id)s, %(collection_id)s)
ON CONFLICT DO NOTHING
"""

RECORD = """
UPDATE {ledger}.batch_run SET
  stage = %(stage)s,
  state = %(state)s,
  counts = counts || %(counts)s::jsonb,
  seconds = seconds || %(seconds)s::jsonb,
  error = %(error)s,
  changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s AND run_id = %(run_id)s
"""

COMPLETE = """
UPDATE {ledger}.batch_run SET
  stage = 'mark_complete', state = 'done', size_bytes = %(size_bytes)s, object_key = %(object_key)s, error = NULL,
  changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s AND run_id = %(run_id)s
"""

RUN_BATCHES = """
SELECT tag, request_id, batch_id, collection_id, stage, state, counts, seconds, size_bytes, object_key, error
FROM {ledger}.batch_run
WHERE run_id = %(run_id)s
ORDER BY listed_at, request_id, batch_id
"""

UNFINISHED_BATCHES = """
SELECT count(*) FROM {ledger}.batch_run
WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s AND state <> 'done'
"""

SET_PROCESSED = """
UPDATE {job_request} j SET processed_batches = %(processed)s
FROM {ledger}.claim c
WHERE j.tag = %(tag)s AND j.request_id = %(request_id)s
  AND c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
"""

# The three ends of a run's work on a request. Each takes its twins along and changes 0 rows where the claim was lost.
SUCCEED = """
UPDATE {job_request} j SET status = 'SUCCESS', download_urls = %(urls)s, processed_batches = %(processed)s,
  err_message = NULL, dt_file_created = now() AT TIME ZONE 'utc', dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.twin_of = %(request_id)s)
"""

FAIL = """
UPDATE {job_request} j SET status = 'FAILED', err_message = %(message)s, processed_batches = %(processed)s,
  dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000,
  iteration = coalesce(iteration, 0) + CASE WHEN c.failure_counted THEN 0 ELSE 1 END
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.twin_of = %(request_id)s)
"""

GIVE_BACK = """
UPDATE {job_request} j SET status = 'SUBMITTED'
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.twin_of = %(request_id)s)
"""

RELEASE = """
UPDATE {ledger}.claim SET released_at = now(), outcome = %(outcome)s,
  failure_counted = failure_counted OR %(outcome)s = 'FAILED'
WHERE run_id = %(run_id)s AND released_at IS NULL
  AND (tag = %(tag)s AND request_id = %(request_id)s OR twin_of = %(request_id)s)
"""

# A rerun of one batch takes its request, and the request's twins, again.
RUN_CLAIMS = """
SELECT tag, request_id FROM {ledger}.claim
WHERE run_id = %(run_id)s AND (tag = %(tag)s AND request_id = %(request_id)s OR twin_of = %(request_id)s)
ORDER BY tag, request_id
"""
