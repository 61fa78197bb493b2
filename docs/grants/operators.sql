-- What people who look after the reports need besides postgres.sql, run in the same way. For a login of their own, or for that of the
-- connection progress_exhaust_requests in Airflow's API server and where `make status`, `why`, `submit` and
-- `release` are used. `release` needs no more than postgres.sql. Nor do the buttons Cancel
-- and Release claim of the page: they need its UPDATE on job_request, claim and batch_run.

GRANT SELECT (dt_job_completed, err_message) ON :"schema".:"requests" TO :"role";  -- the page in Airflow's UI, status, why
GRANT INSERT ON :"schema".:"requests" TO :"role";  -- submit
