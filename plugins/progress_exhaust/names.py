"""Names that several modules share with Airflow: each is written once."""

REPORT_DAG_ID = "progress_exhaust"
RETENTION_DAG_ID = "progress_exhaust_retention"
CHECK_DAG_ID = "progress_exhaust_check"

REQUESTS_ASSET = "progress_exhaust_requests"  # its events start runs on request

INSTALLATION_VARIABLE = "progress_exhaust_installation"  # id of this Airflow, in its metadata database

XCOM_REQUESTS_FOUND = "found"  # pushed by claim_requests: how many requests were pending
XCOM_OVER_RUN_LIMIT = "over_run_limit"  # pushed by list_batches: how many batches wait because of batches_per_run
XCOM_LIST_NEEDS_OPERATOR = "needs_operator"  # pushed by list_batches: no retry fixes why it failed
XCOM_REQUESTS_NOT_LISTED = "not_listed"  # pushed by list_batches: ids of the requests whose batches no source returned

ENDED_RUN_STATES = ("success", "failed")  # of a DAG run
