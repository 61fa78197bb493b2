-- The exhaust API's table, as a current install has it.
CREATE TABLE IF NOT EXISTS job_request (
  tag text NOT NULL,
  request_id text NOT NULL,
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
