"""The page "Progress exhaust" in Airflow's UI: what became of the requests, for course admins and engineers."""
