"""Statements on Postgres about published packages: who has published them, and which requests list them."""

# Return those of these batches of requests of which a run has published a package, or has started to.
PUBLISHED = """
SELECT DISTINCT request_id, batch_id FROM {ledger}.batch_run
WHERE size_bytes IS NOT NULL
  AND (request_id, batch_id) IN (SELECT * FROM unnest(%(request_ids)s::text[], %(batch_ids)s::text[]))
"""
