"""Names that several modules share with Airflow: each is written once."""

REPORT_DAG_ID = "progress_exhaust"
RETENTION_DAG_ID = "progress_exhaust_retention"

XCOM_REQUESTS_FOUND = "found"  # pushed by claim_requests: how many requests were pending

ENDED_RUN_STATES = ("success", "failed")  # of a DAG run
