-- The rights of the connection progress_exhaust_requests, all of them. Who owns the tables runs this in job_request's database,
-- after ledger.sql, and again after a column was added:
--   psql -v role=exhaust -v schema=public -v requests=job_request -v ledger=progress_exhaust -f docs/grants/postgres.sql DATABASE
-- If your table of requests has no column batch_number, remove it from the first GRANT SELECT.
-- The trigger of new requests in Airflow's triggerer uses the same connection. It needs CONNECT, USAGE and SELECT only.
-- The role is one with a login alone: CREATE ROLE exhaust LOGIN PASSWORD '…'

GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT (tag, request_id, job_id, status, request_data, requested_by, requested_channel, dt_job_submitted, download_urls,
  iteration, encryption_key, batch_number, processed_batches) ON :"schema".:"requests" TO :"role";
GRANT UPDATE (status, download_urls, dt_file_created, dt_job_completed, execution_time, err_message, iteration,
  processed_batches) ON :"schema".:"requests" TO :"role";

GRANT USAGE ON SCHEMA :"ledger" TO :"role";
GRANT SELECT ON :"ledger".claim TO :"role";
GRANT INSERT (tag, request_id, installation, run_id) ON :"ledger".claim TO :"role";
GRANT UPDATE (duplicate_of, claimed_at, released_at, outcome, failure_counted, permanent, batch_ids, installation)
  ON :"ledger".claim TO :"role";
GRANT SELECT ON :"ledger".batch_run TO :"role";
GRANT INSERT (tag, request_id, batch_id, installation, run_id, collection_id, channel, state, error, permanent,
  collection_name, batch_name)
  ON :"ledger".batch_run TO :"role";
GRANT UPDATE (stage, state, task_attempts, counts, seconds, size_bytes, object_key, sha256, protection_level, error,
  permanent, changed_at, installation, collection_name, batch_name)
  ON :"ledger".batch_run TO :"role";
GRANT DELETE ON :"ledger".batch_run TO :"role";
