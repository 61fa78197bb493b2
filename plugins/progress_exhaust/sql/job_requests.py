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

# With the column that was added last.
LEDGER_EXISTS = """
SELECT to_regclass(%(claim)s) IS NOT NULL
  AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%(batch_run)s) AND attname = 'tries')
"""

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
  channel text NOT NULL,                         -- of the requesting org
  stage text NOT NULL DEFAULT 'list_batches',
  state text NOT NULL,         -- waiting, running, done, deferred (to the next run), refused (the request's fault), failed
  counts jsonb NOT NULL DEFAULT '{{}}',
  seconds jsonb NOT NULL DEFAULT '{{}}',         -- by stage
  tries jsonb NOT NULL DEFAULT '{{}}',           -- by stage: which try of its task has the say
  size_bytes bigint,                             -- of the package
  object_key text,
  error text,
  listed_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tag, request_id, batch_id, run_id)
);
ALTER TABLE {ledger}.batch_run ADD COLUMN IF NOT EXISTS tries jsonb NOT NULL DEFAULT '{{}}';
CREATE INDEX IF NOT EXISTS batch_run_of_run ON {ledger}.batch_run (run_id);
-- For the page, which counts the last nights.
CREATE INDEX IF NOT EXISTS batch_run_listed_at ON {ledger}.batch_run (listed_at);
CREATE INDEX IF NOT EXISTS claim_claimed_at ON {ledger}.claim (claimed_at);
"""

# What a run may work on: waiting, failed fewer than three times, or left behind in PROCESSING by a run that is dead or, where
# nobody of ours holds it, by another program long ago. force adds what is finished: the named requests, else the day's.
_PENDING = """
job_id = 'progress-exhaust'
  AND (%(request_ids)s::text[] IS NULL OR request_id = ANY(%(request_ids)s))
  AND (%(batch_number)s::integer IS NULL OR batch_number = %(batch_number)s)
  AND (%(channels)s::text[] IS NULL OR requested_channel = ANY(%(channels)s))
  AND (%(submitted_before)s::timestamp IS NULL OR dt_job_submitted < %(submitted_before)s)
  AND (status = 'SUBMITTED'
    OR status = 'FAILED' AND coalesce(iteration, 0) < 3
    OR %(force)s AND status IN ('SUCCESS', 'FAILED') AND (%(request_ids)s::text[] IS NOT NULL OR EXISTS (
      SELECT FROM unnest(download_urls) AS url WHERE right(url, length(%(day_ending)s)) = %(day_ending)s))
    OR status = 'PROCESSING' AND EXISTS (
      SELECT FROM {ledger}.claim c
      WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL AND run_id = ANY(%(dead_runs)s))
    OR status = 'PROCESSING' AND dt_job_submitted < %(abandoned_before)s AND NOT EXISTS (
      SELECT FROM {ledger}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL))
"""

COUNT_PENDING = "SELECT count(*) FROM {job_request} j WHERE " + _PENDING

# The age in seconds, of a column that is UTC without saying so; 0, too, where a server's clock goes ahead.
OLDEST_PENDING = (
    "SELECT greatest(extract(epoch FROM (now() AT TIME ZONE 'utc') - min(dt_job_submitted)), 0) FROM {job_request} j "
    "WHERE isfinite(dt_job_submitted) AND " + _PENDING
)

SUBMIT = """
INSERT INTO {job_request} (tag, request_id, job_id, status, request_data, requested_by, requested_channel, dt_job_submitted,
  iteration, batch_number)
VALUES (%(tag)s, %(request_id)s, 'progress-exhaust', 'SUBMITTED', %(data)s, %(by)s, %(channel)s, now() AT TIME ZONE 'utc', 0,
  %(batch_number)s)
"""

# Runs, other than ours, that hold a request: whether they still live is Airflow's to say.
HOLDING_RUNS = "SELECT DISTINCT run_id FROM {ledger}.claim WHERE released_at IS NULL AND run_id <> %(run_id)s"

_OLDEST_FIRST = " ORDER BY dt_job_submitted, request_id LIMIT %(most)s"

# Locked until the claim is written; another run's claim in the making is skipped, not waited for.
LOCK_PENDING = "SELECT tag, request_id FROM {job_request} j WHERE " + _PENDING + _OLDEST_FIRST + " FOR UPDATE OF j SKIP LOCKED"

# A dead run's late task that is publishing keeps its claim: the next run takes it, and this one does not wait for it.
PINNED = """
WITH free AS (
  SELECT tag, request_id, run_id FROM {ledger}.claim
  WHERE released_at IS NULL AND run_id = ANY(%(dead_runs)s)
    AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  FOR UPDATE SKIP LOCKED)
SELECT tag, request_id FROM {ledger}.claim
WHERE released_at IS NULL AND run_id = ANY(%(dead_runs)s)
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  AND (tag, request_id, run_id) NOT IN (SELECT tag, request_id, run_id FROM free)
"""

# A dead run's attempt was one: counted once, by whoever finds it.
COUNT_DEATHS = """
UPDATE {job_request} j SET iteration = coalesce(iteration, 0) + 1
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.released_at IS NULL AND c.run_id = ANY(%(dead_runs)s)
  AND NOT c.failure_counted
  AND (j.tag, j.request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

RELEASE_DEAD = """
UPDATE {ledger}.claim SET released_at = now(), outcome = 'died', failure_counted = true
WHERE released_at IS NULL AND run_id = ANY(%(dead_runs)s)
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

# What three runs died of is not tried a fourth time.
FAIL_EXHAUSTED = """
UPDATE {job_request} j SET status = 'FAILED', err_message = %(message)s, dt_job_completed = now() AT TIME ZONE 'utc'
WHERE status = 'PROCESSING' AND iteration >= 3
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
  AND NOT EXISTS (
    SELECT FROM {ledger}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND released_at IS NULL)
  AND EXISTS (
    SELECT FROM {ledger}.claim c WHERE c.tag = j.tag AND c.request_id = j.request_id AND outcome = 'died')
RETURNING tag, request_id
"""

# Ours is what no living run holds; the rows are locked, so none can come to hold it meanwhile.
TAKE = """
INSERT INTO {ledger}.claim (tag, request_id, run_id)
SELECT tag, request_id, %(run_id)s FROM unnest(%(tags)s::text[], %(ids)s::text[]) AS wanted (tag, request_id)
WHERE NOT EXISTS (
  SELECT FROM {ledger}.claim c
  WHERE c.tag = wanted.tag AND c.request_id = wanted.request_id AND released_at IS NULL)
ON CONFLICT (tag, request_id, run_id) DO UPDATE SET released_at = NULL, outcome = NULL, claimed_at = now()
RETURNING tag, request_id
"""

# A resubmission leaves the last outcome in the row: nobody may read it as this one's.
START = """
UPDATE {job_request} SET status = 'PROCESSING', err_message = NULL, dt_job_completed = NULL
WHERE (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

HELD = """
SELECT j.tag, j.request_id, j.request_data::text, j.requested_by, j.requested_channel, j.encryption_key,
  j.processed_batches::text
FROM {job_request} j JOIN {ledger}.claim c ON c.tag = j.tag AND c.request_id = j.request_id
WHERE c.run_id = %(run_id)s AND c.released_at IS NULL AND (%(twins)s OR c.twin_of IS NULL)
ORDER BY j.dt_job_submitted, j.request_id
"""

PENDING = (
    """
SELECT tag, request_id, request_data::text, requested_by, requested_channel, encryption_key,
  processed_batches::text
FROM {job_request} j WHERE """
    + _PENDING
    + _OLDEST_FIRST
)

FORGET_TWINS = "UPDATE {ledger}.claim SET twin_of = NULL WHERE run_id = %(run_id)s AND released_at IS NULL"

MARK_TWIN = """
UPDATE {ledger}.claim SET twin_of = %(twin_of)s
WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s
"""

ENCRYPTION_KEY = "SELECT encryption_key FROM {job_request} WHERE tag = %(tag)s AND request_id = %(request_id)s"

HOLDER = """
SELECT run_id FROM {ledger}.claim WHERE tag = %(tag)s AND request_id = %(request_id)s AND released_at IS NULL
"""

# A process that is frozen in the middle of a transaction, or a machine that is gone, keeps its locks no longer than this. The
# last one, which Postgres before 14 lacks, ends the wait of a client that hung up.
WITHOUT_IDLING = """
SELECT set_config(name, value, true)
FROM (VALUES ('idle_in_transaction_session_timeout', '30s'), ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'),
  ('tcp_keepalives_count', '3'), ('client_connection_check_interval', '10s')) AS wanted (name, value)
WHERE current_setting(name, true) IS NOT NULL
"""

# What is held while a task works elsewhere, for minutes, must not be taken away by a server's usual limits.
WITHOUT_TIMEOUTS = """
SELECT set_config(name, value, true)
FROM (VALUES ('statement_timeout', '0'), ('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0')) AS w (name, value)
"""

# A put, too, comes to an end: a process that is frozen in it does not hold up its retries for ever.
WITHOUT_TIMEOUTS_FOR_A_PUT = WITHOUT_TIMEOUTS.replace("_session_timeout', '0'", "_session_timeout', '1h'")

# Held until the transaction ends, however it does.
WAIT_IN_LINE = "SELECT pg_advisory_xact_lock(hashtextextended(%(work)s, 0))"

# Locks the rows that every change of a claim locks first: the request's, and its twins', which share its end. A statement
# after it sees who holds them; one that waited for a lock itself would still see the claims of before.
LOCK_REQUEST = """
SELECT tag, request_id, processed_batches::text FROM {job_request}
WHERE (tag, request_id) IN (
  SELECT %(tag)s, %(request_id)s
  UNION SELECT tag, request_id FROM {ledger}.claim WHERE run_id = %(run_id)s AND twin_of = %(request_id)s)
ORDER BY tag, request_id FOR UPDATE
"""

# A claim that is being used to publish cannot be taken over meanwhile.
PIN_CLAIM = """
SELECT FROM {ledger}.claim
WHERE tag = %(tag)s AND request_id = %(request_id)s AND run_id = %(run_id)s AND released_at IS NULL FOR SHARE
"""

# A try of a stage that is being written for is not overtaken meanwhile.
PIN_TRY = """
SELECT coalesce((tries->>%(stage)s)::integer, 0) > %(try_number)s FROM {ledger}.batch_run
WHERE run_id = %(run_id)s AND tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s FOR SHARE
"""

# The same of the run's list. A list that came to no batch leaves no mark: a late try after it finds its requests over.
PIN_LIST = """
SELECT coalesce((tries->>'list_batches')::integer, 0) > %(try_number)s FROM {ledger}.batch_run
WHERE run_id = %(run_id)s ORDER BY tag, request_id, batch_id FOR UPDATE
"""

MARK_LIST = """
UPDATE {ledger}.batch_run SET tries = tries || jsonb_build_object('list_batches', %(try_number)s::integer)
WHERE run_id = %(run_id)s
"""

# A run that was deleted in Airflow, and is made there anew under the same id, counts its tries from 1 again.
UNMARK_LIST = "UPDATE {ledger}.batch_run SET tries = tries - 'list_batches' WHERE run_id = %(run_id)s"

# A list made again replaces what the run had not finished of the last one.
FORGET_LIST = """
DELETE FROM {ledger}.batch_run
WHERE run_id = %(run_id)s AND state <> 'done'
  AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

LIST_BATCH = """
INSERT INTO {ledger}.batch_run (tag, request_id, batch_id, run_id, collection_id, channel, state)
VALUES (%(tag)s, %(request_id)s, %(batch_id)s, %(run_id)s, %(collection_id)s, %(channel)s, %(state)s)
ON CONFLICT (tag, request_id, batch_id, run_id) DO UPDATE SET
  stage = 'list_batches', state = excluded.state, tries = '{{}}', counts = '{{}}', seconds = '{{}}', error = NULL,
  changed_at = now()
"""

# The latest try of a stage has the say: one that Airflow gave up for dead, and that goes on all the same, has none. And a mark
# whose COMMIT was not acknowledged counts: what could not be told of it must not be written over it. A stage that is at work
# has not taken its time yet, and its news take the place of those before.
RECORD = """
UPDATE {ledger}.batch_run SET
  tries = tries || jsonb_build_object(%(stage)s::text, %(try_number)s::integer),
  stage = %(stage)s,
  state = CASE WHEN state = 'done' AND %(state)s = 'failed' THEN state ELSE %(state)s END,
  counts = CASE WHEN %(state)s = 'running' THEN counts - %(news)s::text[] ELSE counts END || %(counts)s::jsonb,
  seconds = CASE WHEN %(state)s = 'running' THEN seconds - %(stage)s::text ELSE seconds END || %(seconds)s::jsonb,
  size_bytes = coalesce(%(size_bytes)s, size_bytes),
  error = CASE WHEN state = 'done' AND %(state)s = 'failed' THEN error ELSE %(error)s END,
  changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s AND run_id = %(run_id)s
  AND coalesce((tries->>%(stage)s)::integer, 0) <= %(try_number)s
"""

COMPLETE = """
UPDATE {ledger}.batch_run SET
  stage = 'mark_complete', state = 'done', size_bytes = %(size_bytes)s, object_key = %(object_key)s, error = NULL,
  changed_at = now()
WHERE tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s AND run_id = %(run_id)s
"""

BATCH_RUN = """
SELECT tag, request_id, batch_id, collection_id, channel, stage, state, counts, seconds, size_bytes, object_key, error
FROM {ledger}.batch_run
WHERE run_id = %(run_id)s AND tag = %(tag)s AND request_id = %(request_id)s AND batch_id = %(batch_id)s
"""

RUN_BATCHES = """
SELECT tag, request_id, batch_id, collection_id, channel, stage, state, counts, seconds, size_bytes, object_key, error
FROM {ledger}.batch_run
WHERE run_id = %(run_id)s
ORDER BY listed_at, request_id, batch_id
"""

LEFT_BY_OTHERS = """
SELECT b.run_id, b.tag, b.request_id, b.channel, b.batch_id, b.collection_id
FROM {ledger}.batch_run b JOIN {ledger}.claim c ON c.tag = b.tag AND c.request_id = b.request_id
WHERE c.run_id = %(run_id)s AND c.outcome = 'SUCCESS' AND b.run_id <> c.run_id AND b.state <> 'done'
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

# The three ends of a run's work on a request. Each takes its twins along and changes no row whose claim was lost. Where
# execution_time is an integer, it holds 24 days.
SUCCEED = """
UPDATE {job_request} j SET status = 'SUCCESS', download_urls = %(urls)s, processed_batches = %(processed)s,
  err_message = NULL, dt_file_created = now() AT TIME ZONE 'utc', dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = least(extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000, 2147483647)
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.twin_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

FAIL = """
UPDATE {job_request} j SET status = 'FAILED', err_message = %(message)s, processed_batches = %(processed)s,
  dt_job_completed = now() AT TIME ZONE 'utc',
  execution_time = least(extract(epoch FROM clock_timestamp() - c.claimed_at) * 1000, 2147483647),
  iteration = coalesce(iteration, 0) + CASE WHEN c.failure_counted THEN 0 ELSE 1 END
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.twin_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

GIVE_BACK = """
UPDATE {job_request} j SET status = 'SUBMITTED'
FROM {ledger}.claim c
WHERE c.tag = j.tag AND c.request_id = j.request_id AND c.run_id = %(run_id)s AND c.released_at IS NULL
  AND (c.tag = %(tag)s AND c.request_id = %(request_id)s OR c.twin_of = %(request_id)s)
RETURNING j.tag, j.request_id
"""

RELEASE = """
UPDATE {ledger}.claim SET released_at = now(), outcome = %(outcome)s,
  failure_counted = failure_counted OR %(outcome)s = 'FAILED'
WHERE run_id = %(run_id)s AND released_at IS NULL
  AND (tag = %(tag)s AND request_id = %(request_id)s OR twin_of = %(request_id)s)
"""

# A rerun of one batch takes its request, and the request's twins, again, unless another run has made it since.
RUN_CLAIMS = """
SELECT tag, request_id FROM {ledger}.claim c
WHERE run_id = %(run_id)s AND (tag = %(tag)s AND request_id = %(request_id)s OR twin_of = %(request_id)s)
  AND NOT EXISTS (
    SELECT FROM {ledger}.claim later JOIN {job_request} j USING (tag, request_id)
    WHERE later.tag = c.tag AND later.request_id = c.request_id AND j.status = 'SUCCESS'
      AND later.outcome = 'SUCCESS' AND later.run_id <> c.run_id AND later.released_at > c.released_at)
ORDER BY tag, request_id
"""

# What this run held and left unfinished: cleared tasks take it again, unless another run has made it since.
UNFINISHED_CLAIMS = """
SELECT tag, request_id FROM {ledger}.claim c
WHERE run_id = %(run_id)s AND released_at IS NOT NULL AND outcome <> 'SUCCESS'
  AND NOT EXISTS (
    SELECT FROM {job_request} j WHERE j.tag = c.tag AND j.request_id = c.request_id AND j.status = 'SUCCESS')
ORDER BY tag, request_id
"""

HAS_UNFINISHED = """
SELECT EXISTS (SELECT FROM {ledger}.claim WHERE run_id = %(run_id)s AND outcome IS DISTINCT FROM 'SUCCESS')
"""

LOCK_REQUESTS = """
SELECT FROM {job_request} WHERE (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
ORDER BY tag, request_id FOR UPDATE
"""

# Of a request that nobody holds.
MAKER = """
SELECT run_id FROM {ledger}.claim
WHERE tag = %(tag)s AND request_id = %(request_id)s AND outcome = 'SUCCESS' AND run_id <> %(run_id)s
ORDER BY released_at DESC LIMIT 1
"""

HOLDERS = """
SELECT request_id, run_id FROM {ledger}.claim
WHERE released_at IS NULL AND (tag, request_id) IN (SELECT * FROM unnest(%(tags)s::text[], %(ids)s::text[]))
"""

OUTCOMES = """
SELECT coalesce(outcome, 'held'), twin_of IS NOT NULL, count(*) FROM {ledger}.claim WHERE run_id = %(run_id)s GROUP BY 1, 2
"""

CHANNEL_BYTES = """
SELECT coalesce(sum(size_bytes), 0) FROM {ledger}.batch_run
WHERE run_id = %(run_id)s AND channel = %(channel)s AND NOT (request_id = %(request_id)s AND batch_id = %(batch_id)s)
"""
