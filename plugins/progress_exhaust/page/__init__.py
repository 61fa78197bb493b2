"""The page "Progress exhaust" in Airflow's UI: the state of the requests, for course admins and engineers."""
