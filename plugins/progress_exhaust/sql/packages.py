"""Statements on Postgres about published packages: who has published them, and which requests list them."""

# Return those of these batches of requests of which a run has published a package, or has started to.
PUBLISHED = """
SELECT DISTINCT request_id, batch_id FROM {ledger}.batch_run
WHERE size_bytes IS NOT NULL
  AND (request_id, batch_id) IN (SELECT * FROM unnest(%(request_ids)s::text[], %(batch_ids)s::text[]))
"""

# Return the collections of a batch, as runs have listed it for a request.
COLLECTIONS = """
SELECT DISTINCT collection_id FROM {ledger}.batch_run WHERE request_id = %(request_id)s AND batch_id = %(batch_id)s
"""

# Lock the requests of a package: those with the id that is in its key, and their duplicates, which list it, too. In addition,
# return whether each is being made, and what it lists.
LOCK_REQUESTS = """
SELECT tag, request_id, status = '{status.PROCESSING}', download_urls, processed_batches::text FROM {job_request}
WHERE job_id = '{job_id}' AND (request_id = %(request_id)s OR %(key)s = ANY(download_urls))
ORDER BY tag, request_id FOR UPDATE
"""

# Keep runs from publishing a package of a batch; return whether one publishes it at this moment.
LOCK_PUBLISHING = """
WITH free AS (
  SELECT FROM {ledger}.batch_run WHERE request_id = %(request_id)s AND batch_id = %(batch_id)s FOR UPDATE SKIP LOCKED)
SELECT (SELECT count(*) FROM free) <
  (SELECT count(*) FROM {ledger}.batch_run WHERE request_id = %(request_id)s AND batch_id = %(batch_id)s)
"""

# Remove a package from what a request lists. Its row is locked, and no run holds it. If the request is SUBMITTED, the next run
# makes the batch again.
UNLIST = """
UPDATE {job_request} SET download_urls = %(urls)s, processed_batches = %(processed)s, err_message = %(message)s,
  status = CASE WHEN %(make_again)s THEN '{status.SUBMITTED}' ELSE status END
WHERE tag = %(tag)s AND request_id = %(request_id)s
"""
