"""The DAGs. Airflow finds them by the files of `dags/`."""
