"""Postgres: the queue of requests (job_request), and our own claims and ledger."""
