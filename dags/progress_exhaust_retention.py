"""Airflow finds the DAG by this file. The task is in `progress_exhaust.dags.retention`."""

from progress_exhaust.dags.retention import retention_dag

dag = retention_dag()
