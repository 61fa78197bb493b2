"""Airflow finds the DAG by this file. The tasks are in `progress_exhaust.dags.report`."""

from progress_exhaust.dags.report import report_dag

dag = report_dag()
