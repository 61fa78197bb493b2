"""Statements on Postgres about the ledger: create and upgrade it, list batches, record what happened to them."""

# The columns of job_request that we read or write, with the types that Sunbird gives them.
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

# Let one run at a time create or upgrade the ledger.
LOCK_LEDGER = "SELECT pg_advisory_xact_lock(hashtext('progress_exhaust ledger'))"

# Some installations lack these: they count as null.
OPTIONAL_COLUMNS = frozenset({"batch_number"})

# Create our own two tables, or upgrade those of an earlier version in place. Every part may run twice. Two runs that start at the
# same time wait for each other. Not every role may alter the tables: docs/grants/ledger.sql is this same text.
CREATE_LEDGER = """
SELECT pg_advisory_xact_lock(hashtext('progress_exhaust ledger'));
CREATE SCHEMA IF NOT EXISTS {ledger};
CREATE TABLE IF NOT EXISTS {ledger}.claim (
  tag text NOT NULL,
  request_id text NOT NULL,
  run_id text NOT NULL,                          -- empty if a person cancelled the request before a run claimed it
  duplicate_of text,                             -- request_id of the request whose outcome this one gets
  claimed_at timestamptz NOT NULL DEFAULT now(),
  released_at timestamptz,                       -- null while the run holds the request
  -- {outcome.SUCCESS}, {outcome.FAILED}, {outcome.SUBMITTED} (requeued), {outcome.LOST} (the run ended without an outcome)
  -- or {outcome.RELEASED} or {outcome.CANCELLED} (both by a person)
  outcome text,
  failure_counted boolean NOT NULL DEFAULT false, -- this run has added its 1 to iteration
  installation text NOT NULL DEFAULT '',         -- the Airflow of the run; empty until a run adopts the row of an earlier version
  permanent boolean NOT NULL DEFAULT false,      -- the run failed the request with a permanent error: no run tries it by itself
  batch_ids text[],                              -- all batches of the request, in its order, as this run listed them
  PRIMARY KEY (tag, request_id, installation, run_id)
);
CREATE TABLE IF NOT EXISTS {ledger}.batch_run (
  tag text NOT NULL,
  request_id text NOT NULL,
  batch_id text NOT NULL,
  run_id text NOT NULL,
  collection_id text NOT NULL,
  channel text NOT NULL,                         -- of the requesting org
  stage text NOT NULL DEFAULT '{stage.LIST_BATCHES}',
  -- {state.WAITING}, {state.RUNNING}, {state.DONE}, {state.FAILED}, {state.DEFERRED} (to the next run)
  -- or {state.REJECTED} (permanently: the request asks for something that cannot be made)
  state text NOT NULL,
  counts jsonb NOT NULL DEFAULT '{{}}',
  seconds jsonb NOT NULL DEFAULT '{{}}',         -- per stage
  task_attempts jsonb NOT NULL DEFAULT '{{}}',   -- per stage: the newest attempt of its task, the only one that may write
  size_bytes bigint,                             -- of the package
  object_key text,
  error text,
  listed_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  installation text NOT NULL DEFAULT '',         -- as in claim
  permanent boolean NOT NULL DEFAULT false,      -- no retry fixes the error
  collection_name text,                          -- null if an earlier version listed the batch, or if it was rejected
  batch_name text,
  sha256 text,                                   -- of the package, in hexadecimal digits
  protection_level text,                         -- of the package
  PRIMARY KEY (tag, request_id, batch_id, installation, run_id)
);

-- Upgrade the tables of an earlier version: columns and stored words get their new names, and no row is lost.
SET LOCAL search_path TO {ledger};
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'claim'::regclass AND attname = 'twin_of') THEN
    ALTER TABLE claim RENAME COLUMN twin_of TO duplicate_of;
  END IF;
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'batch_run'::regclass AND attname = 'tries') THEN
    ALTER TABLE batch_run RENAME COLUMN tries TO task_attempts;
  END IF;
  ALTER TABLE batch_run ADD COLUMN IF NOT EXISTS task_attempts jsonb NOT NULL DEFAULT '{{}}';
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'claim'::regclass AND attname = 'installation') THEN
    ALTER TABLE claim ADD COLUMN installation text NOT NULL DEFAULT '';
    ALTER TABLE claim DROP CONSTRAINT claim_pkey, ADD PRIMARY KEY (tag, request_id, installation, run_id);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'batch_run'::regclass AND attname = 'installation') THEN
    ALTER TABLE batch_run ADD COLUMN installation text NOT NULL DEFAULT '';
    ALTER TABLE batch_run DROP CONSTRAINT batch_run_pkey, ADD PRIMARY KEY (tag, request_id, batch_id, installation, run_id);
  END IF;
END $$;
ALTER TABLE {ledger}.claim ADD COLUMN IF NOT EXISTS permanent boolean NOT NULL DEFAULT false;
ALTER TABLE {ledger}.claim ADD COLUMN IF NOT EXISTS batch_ids text[];
ALTER TABLE {ledger}.batch_run ADD COLUMN IF NOT EXISTS permanent boolean NOT NULL DEFAULT false;
ALTER TABLE {ledger}.batch_run ADD COLUMN IF NOT EXISTS collection_name text;
ALTER TABLE {ledger}.batch_run ADD COLUMN IF NOT EXISTS batch_name text;
ALTER TABLE {ledger}.batch_run ADD COLUMN IF NOT EXISTS sha256 text;
ALTER TABLE {ledger}.batch_run ADD COLUMN IF NOT EXISTS protection_level text;
UPDATE {ledger}.claim SET outcome = '{outcome.LOST}' WHERE outcome = 'died';
UPDATE {ledger}.batch_run SET state = '{state.REJECTED}' WHERE state = 'refused';
UPDATE {ledger}.batch_run
SET counts = (SELECT jsonb_object_agg(regexp_replace(key, '^left_out[.]', 'excluded.'), value) FROM jsonb_each(counts))
WHERE EXISTS (SELECT FROM jsonb_object_keys(counts) AS key WHERE starts_with(key, 'left_out.'));

CREATE UNIQUE INDEX IF NOT EXISTS claim_held_once ON {ledger}.claim (tag, request_id) WHERE released_at IS NULL;
CREATE INDEX IF NOT EXISTS batch_run_of_run ON {ledger}.batch_run (run_id);
-- For the page, which shows the last days.
CREATE INDEX IF NOT EXISTS batch_run_listed_at ON {ledger}.batch_run (listed_at);
CREATE INDEX IF NOT EXISTS claim_claimed_at ON {ledger}.claim (claimed_at);
-- For the limits of one org.
CREATE INDEX IF NOT EXISTS batch_run_of_channel ON {ledger}.batch_run (channel, listed_at);
"""

# Return the runs of an earlier version that hold a request. Their rows do not say which installation they belong to.
UNADOPTED_RUNS = "SELECT DISTINCT run_id FROM {ledger}.claim WHERE released_at IS NULL AND installation = ''"

# Note that rows of an earlier version belong to this installation.
ADOPT_CLAIMS = """
UPDATE {ledger}.claim SET installation = %(installation)s WHERE installation = '' AND run_id = ANY(%(run_ids)s::text[])
"""
ADOPT_BATCH_RUNS = """
UPDATE {ledger}.batch_run SET installation = %(installation)s WHERE installation = '' AND run_id = ANY(%(run_ids)s::text[])
"""

# Note which attempt of list_batches made the list of this run: older attempts may not change it.
MARK_LIST_ATTEMPT = """
UPDATE {ledger}.batch_run
SET task_attempts = task_attempts || jsonb_build_object('{stage.LIST_BATCHES}', %(task_attempt)s::integer)
WHERE installation = %(installation)s AND run_id = %(run_id)s
"""

# Before a list is made again, delete what the run had not finished of the previous list.
DELETE_UNFINISHED_BATCHES = """
DELETE FROM {ledger}.batch_run
WHERE installation = %(installation)s AND run_id = %(run_id)s AND state <> '{state.DONE}'
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# Enter one batch of the run's list; a batch that is listed again starts with empty figures.
LIST_BATCH = """
INSERT INTO {ledger}.batch_run
  (tag, request_id, batch_id, installation, run_id, collection_id, channel, state, error, permanent, collection_name, batch_name)
VALUES (%(tag)s, %(request_id)s, %(batch_id)s, %(installation)s, %(run_id)s, %(collection_id)s, %(channel)s, %(state)s,
  %(error)s, %(state)s = '{state.REJECTED}', %(collection_name)s, %(batch_name)s)
ON CONFLICT (tag, request_id, batch_id, installation, run_id) DO UPDATE SET
  stage = '{stage.LIST_BATCHES}', state = excluded.state, task_attempts = '{{}}', counts = '{{}}', seconds = '{{}}',
  error = excluded.error, permanent = excluded.permanent, collection_name = excluded.collection_name,
  batch_name = excluded.batch_name, changed_at = now()
"""

# Record the state of a batch, unless a newer attempt of the stage has started. A batch that is done stays done: the COMMIT may
# have succeeded although its answer was lost. A running stage has no final time yet, and its progress replaces earlier progress.
RECORD = """
UPDATE {ledger}.batch_run SET
  task_attempts = task_attempts || jsonb_build_object(%(stage)s::text, %(task_attempt)s::integer),
  stage = %(stage)s,
  state = CASE WHEN state = '{state.DONE}' AND %(state)s = '{state.FAILED}' THEN state ELSE %(state)s END,
  counts = CASE WHEN %(state)s = '{state.RUNNING}' THEN counts - %(progress_keys)s::text[] ELSE counts END || %(counts)s::jsonb,
  seconds = CASE WHEN %(state)s = '{state.RUNNING}' THEN seconds - %(stage)s::text ELSE seconds END || %(seconds)s::jsonb,
  size_bytes = coalesce(%(size_bytes)s, size_bytes),
  error = CASE WHEN state = '{state.DONE}' AND %(state)s = '{state.FAILED}' THEN error ELSE %(error)s END,
  permanent = %(permanent)s AND state <> '{state.DONE}',
  changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s
  AND installation = %(installation)s AND run_id = %(run_id)s
  AND coalesce((task_attempts->>%(stage)s)::integer, 0) <= %(task_attempt)s
"""

_BATCH_RUN = """
SELECT tag, request_id, batch_id, collection_id, channel, stage, state, counts, seconds, size_bytes, object_key, error,
  permanent
FROM {ledger}.batch_run
WHERE installation = %(installation)s AND run_id = %(run_id)s
"""

# Return what the ledger says about one batch of the run.
BATCH_RUN = _BATCH_RUN + " AND tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s"

# Return what it says about the batches of one request.
REQUEST_BATCHES = _BATCH_RUN + " AND tag = %(tag)s AND request_id = %(request_id)s ORDER BY batch_id"

# Return what the ledger says about every batch of the run, in the order of the list.
RUN_BATCHES = _BATCH_RUN + " ORDER BY listed_at, request_id, batch_id"

# Return what it says about a batch in other requests of the run for the same org.
SAME_BATCH = (
    _BATCH_RUN
    + " AND channel = %(channel)s AND batch_id = %(batch_id)s AND collection_id = %(collection_id)s"
    + " AND (tag, request_id) <> (%(tag)s, %(request_id)s) ORDER BY listed_at, request_id"
)

# Return the batches that other runs of this installation left unfinished, of the requests that this run brought to SUCCESS.
UNFINISHED_IN_OTHER_RUNS = """
SELECT b.run_id, b.tag, b.request_id, b.channel, b.batch_id, b.collection_id
FROM {ledger}.batch_run b JOIN {ledger}.claim c ON c.tag = b.tag AND c.request_id = b.request_id
WHERE c.installation = %(installation)s AND c.run_id = %(run_id)s AND c.outcome = '{outcome.SUCCESS}'
  AND b.installation = c.installation AND b.run_id <> c.run_id AND b.state <> '{state.DONE}'
"""

# Record the bytes that a batch is about to publish, so that packages that are published at the same time count each other.
RESERVE_BYTES = """
UPDATE {ledger}.batch_run SET size_bytes = %(size_bytes)s
WHERE installation = %(installation)s AND run_id = %(run_id)s AND tag = %(tag)s AND request_id = %(request_id)s
  AND batch_id = %(batch_id)s
"""

# Return which batches some orgs have got with the reports of a day, and which other runs are making for them. A run of an earlier
# day has its own day, and a backfill lists its batches now.
BATCHES_OF_DAY = """
SELECT b.channel, b.request_id, b.batch_id
FROM {ledger}.batch_run b LEFT JOIN {ledger}.claim c
  ON c.tag = b.tag AND c.request_id = b.request_id AND c.installation = b.installation AND c.run_id = b.run_id
WHERE b.installation = %(installation)s AND b.channel = ANY(%(channels)s::text[]) AND b.request_id <> ''
  AND b.listed_at > now() - interval '2 days'
  AND (b.state = '{state.DONE}' AND right(b.object_key, length(%(day_ending)s)) = %(day_ending)s
    OR b.run_id <> %(run_id)s AND b.state IN ('{state.WAITING}', '{state.RUNNING}') AND c.claimed_at IS NOT NULL
      AND c.released_at IS NULL)
"""

# Return the batches of some orgs whose package exceeded what their org may get with the reports of a day, and still would.
OVER_BYTES_OF_DAY = """
WITH newest AS (
  SELECT DISTINCT ON (tag, request_id, batch_id) * FROM {ledger}.batch_run
  WHERE installation = %(installation)s AND channel = ANY(%(channels)s::text[]) AND request_id <> ''
    AND listed_at > now() - interval '2 days' AND (state = '{state.DONE}' OR counts ? '{deferred_bytes}')
  ORDER BY tag, request_id, batch_id, changed_at DESC)
SELECT over.request_id, over.batch_id
FROM newest over CROSS JOIN LATERAL (
  SELECT sum(size_bytes) AS published_bytes FROM newest b
  WHERE b.channel = over.channel AND b.state = '{state.DONE}'
    AND right(b.object_key, length(%(day_ending)s)) = %(day_ending)s) AS of_day
WHERE over.state = '{state.DEFERRED}'
  AND published_bytes + (over.counts ->> '{deferred_bytes}')::bigint > %(limit_bytes)s
"""

# Return the bytes that an org has got with the reports of a day, or that this run is publishing for it, without those of the
# batch itself. Of a batch that was made again, only the newest package counts. No request names the package of a rejected batch,
# which a person has cancelled while it was made.
CHANNEL_BYTES = """
SELECT coalesce(sum(size_bytes), 0) FROM (
  SELECT DISTINCT ON (tag, request_id, batch_id) size_bytes FROM {ledger}.batch_run
  WHERE installation = %(installation)s AND channel = %(channel)s AND listed_at > now() - interval '2 days'
    AND state <> '{state.REJECTED}' AND (run_id = %(run_id)s OR right(object_key, length(%(day_ending)s)) = %(day_ending)s)
    AND (tag, request_id, batch_id) <> (%(tag)s, %(request_id)s, %(batch_id)s)
  ORDER BY tag, request_id, batch_id, changed_at DESC) AS newest
"""
