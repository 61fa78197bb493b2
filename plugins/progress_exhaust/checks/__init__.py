"""Check an installation before its first run: every connection, right, table and store. It changes nothing.

- findings: what a check finds, and how checks run
- installation: the list of all checks
- one file per system: airflow_setup, requests_database, learner_tables, user_cache, web_apis, report_store
"""
