"""Postgres: the requests (job_request), the claims that say which run works on them, and the ledger of what happened."""
