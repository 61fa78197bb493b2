-- Create or upgrade the claims and the ledger, as the first task does if its role may. Made by `make docs`.
--   psql -1 -v ledger=progress_exhaust -f docs/grants/ledger.sql DATABASE
SELECT pg_advisory_xact_lock(hashtext('progress_exhaust ledger'));
CREATE SCHEMA IF NOT EXISTS :"ledger";
CREATE TABLE IF NOT EXISTS :"ledger".claim (
  tag text NOT NULL,
  request_id text NOT NULL,
  run_id text NOT NULL,                          -- empty if a person cancelled the request before a run claimed it
  duplicate_of text,                             -- request_id of the request whose outcome this one gets
  claimed_at timestamptz NOT NULL DEFAULT now(),
  released_at timestamptz,                       -- null while the run holds the request
  -- SUCCESS, FAILED, SUBMITTED (requeued), lost (the run ended without an outcome)
  -- or released or cancelled (both by a person)
  outcome text,
  failure_counted boolean NOT NULL DEFAULT false, -- this run has added its 1 to iteration
  installation text NOT NULL DEFAULT '',         -- the Airflow of the run; empty until a run adopts the row of an earlier version
  permanent boolean NOT NULL DEFAULT false,      -- the run failed the request with a permanent error: no run tries it by itself
  batch_ids text[],                              -- all batches of the request, in its order, as this run listed them
  PRIMARY KEY (tag, request_id, installation, run_id)
);
CREATE TABLE IF NOT EXISTS :"ledger".batch_run (
  tag text NOT NULL,
  request_id text NOT NULL,
  batch_id text NOT NULL,
  run_id text NOT NULL,
  collection_id text NOT NULL,
  channel text NOT NULL,                         -- of the requesting org
  stage text NOT NULL DEFAULT 'list_batches',
  -- waiting, running, done, failed, deferred (to the next run)
  -- or rejected (permanently: the request asks for something that cannot be made)
  state text NOT NULL,
  counts jsonb NOT NULL DEFAULT '{}',
  seconds jsonb NOT NULL DEFAULT '{}',         -- per stage
  task_attempts jsonb NOT NULL DEFAULT '{}',   -- per stage: the newest attempt of its task, the only one that may write
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
SET LOCAL search_path TO :"ledger";
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'claim'::regclass AND attname = 'twin_of') THEN
    ALTER TABLE claim RENAME COLUMN twin_of TO duplicate_of;
  END IF;
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'batch_run'::regclass AND attname = 'tries') THEN
    ALTER TABLE batch_run RENAME COLUMN tries TO task_attempts;
  END IF;
  ALTER TABLE batch_run ADD COLUMN IF NOT EXISTS task_attempts jsonb NOT NULL DEFAULT '{}';
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'claim'::regclass AND attname = 'installation') THEN
    ALTER TABLE claim ADD COLUMN installation text NOT NULL DEFAULT '';
    ALTER TABLE claim DROP CONSTRAINT claim_pkey, ADD PRIMARY KEY (tag, request_id, installation, run_id);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'batch_run'::regclass AND attname = 'installation') THEN
    ALTER TABLE batch_run ADD COLUMN installation text NOT NULL DEFAULT '';
    ALTER TABLE batch_run DROP CONSTRAINT batch_run_pkey, ADD PRIMARY KEY (tag, request_id, batch_id, installation, run_id);
  END IF;
END $$;
ALTER TABLE :"ledger".claim ADD COLUMN IF NOT EXISTS permanent boolean NOT NULL DEFAULT false;
ALTER TABLE :"ledger".claim ADD COLUMN IF NOT EXISTS batch_ids text[];
ALTER TABLE :"ledger".batch_run ADD COLUMN IF NOT EXISTS permanent boolean NOT NULL DEFAULT false;
ALTER TABLE :"ledger".batch_run ADD COLUMN IF NOT EXISTS collection_name text;
ALTER TABLE :"ledger".batch_run ADD COLUMN IF NOT EXISTS batch_name text;
ALTER TABLE :"ledger".batch_run ADD COLUMN IF NOT EXISTS sha256 text;
ALTER TABLE :"ledger".batch_run ADD COLUMN IF NOT EXISTS protection_level text;
UPDATE :"ledger".claim SET outcome = 'lost' WHERE outcome = 'died';
UPDATE :"ledger".batch_run SET state = 'rejected' WHERE state = 'refused';
UPDATE :"ledger".batch_run
SET counts = (SELECT jsonb_object_agg(regexp_replace(key, '^left_out[.]', 'excluded.'), value) FROM jsonb_each(counts))
WHERE EXISTS (SELECT FROM jsonb_object_keys(counts) AS key WHERE starts_with(key, 'left_out.'));

CREATE UNIQUE INDEX IF NOT EXISTS claim_held_once ON :"ledger".claim (tag, request_id) WHERE released_at IS NULL;
CREATE INDEX IF NOT EXISTS batch_run_of_run ON :"ledger".batch_run (run_id);
-- For the page, which shows the last days.
CREATE INDEX IF NOT EXISTS batch_run_listed_at ON :"ledger".batch_run (listed_at);
CREATE INDEX IF NOT EXISTS claim_claimed_at ON :"ledger".claim (claimed_at);
-- For the limits of one org.
CREATE INDEX IF NOT EXISTS batch_run_of_channel ON :"ledger".batch_run (channel, listed_at);
