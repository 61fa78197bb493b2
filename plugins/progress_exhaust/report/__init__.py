"""The pure core: what the report is. No Airflow, no driver."""
