-- The claims and the ledger, as the first task makes them where its role may: made by `make docs`.
--   psql -1 -v ledger=progress_exhaust -f docs/grants/ledger.sql DATABASE
SELECT pg_advisory_xact_lock(hashtext('progress_exhaust ledger'));
CREATE SCHEMA IF NOT EXISTS :"ledger";
CREATE TABLE IF NOT EXISTS :"ledger".claim (
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
CREATE UNIQUE INDEX IF NOT EXISTS claim_held_once ON :"ledger".claim (tag, request_id) WHERE released_at IS NULL;
CREATE TABLE IF NOT EXISTS :"ledger".batch_run (
  tag text NOT NULL,
  request_id text NOT NULL,
  batch_id text NOT NULL,
  run_id text NOT NULL,
  collection_id text NOT NULL,
  channel text NOT NULL,                         -- of the requesting org
  stage text NOT NULL DEFAULT 'list_batches',
  state text NOT NULL,         -- waiting, running, done, deferred (to the next run), refused (the request's fault), failed
  counts jsonb NOT NULL DEFAULT '{}',
  seconds jsonb NOT NULL DEFAULT '{}',         -- by stage
  tries jsonb NOT NULL DEFAULT '{}',           -- by stage: which try of its task has the say
  size_bytes bigint,                             -- of the package
  object_key text,
  error text,
  listed_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tag, request_id, batch_id, run_id)
);
ALTER TABLE :"ledger".batch_run ADD COLUMN IF NOT EXISTS tries jsonb NOT NULL DEFAULT '{}';
CREATE INDEX IF NOT EXISTS batch_run_of_run ON :"ledger".batch_run (run_id);
-- For the page, which counts the last nights.
CREATE INDEX IF NOT EXISTS batch_run_listed_at ON :"ledger".batch_run (listed_at);
CREATE INDEX IF NOT EXISTS claim_claimed_at ON :"ledger".claim (claimed_at);
