-- Create the table of requests where the platform has none, as `progress-exhaust init-requests` does. Made by
-- `make docs`.
--   psql -v schema=public -v requests=job_request -f docs/grants/job_request.sql DATABASE
CREATE TABLE IF NOT EXISTS :"schema".:"requests" (
  tag text,
  request_id text,
  job_id text,
  status text,
  request_data json,
  requested_by text,
  requested_channel text,
  dt_job_submitted timestamp,
  download_urls text[],
  dt_file_created timestamp,
  dt_job_completed timestamp,
  execution_time bigint,
  err_message text,
  iteration integer,
  encryption_key text,
  batch_number integer,
  processed_batches jsonb,
  PRIMARY KEY (tag, request_id)
);
