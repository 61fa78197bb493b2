-- The rights of a portal that submits requests itself, and shows their state and files. Run it in job_request's database:
--   psql -v role=portal -v schema=public -v requests=job_request -f docs/grants/portal.sql DATABASE
-- The role is one with a login alone: CREATE ROLE portal LOGIN PASSWORD '…'

GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT INSERT (tag, request_id, job_id, status, request_data, requested_by, requested_channel, dt_job_submitted, iteration,
  encryption_key) ON :"schema".:"requests" TO :"role";
GRANT SELECT (tag, request_id, status, requested_by, requested_channel, dt_job_submitted, download_urls, dt_job_completed,
  err_message) ON :"schema".:"requests" TO :"role";
