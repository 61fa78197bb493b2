"""Airflow finds the DAG by this file. The task is in `progress_exhaust.dags.check`."""

from progress_exhaust.dags.check import check_dag

dag = check_dag()
