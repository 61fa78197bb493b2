"""Statements on Postgres that only read: which submitted requests no run has claimed yet.

The trigger sends one of them every few seconds.
"""

from progress_exhaust.sql.claims import OF_THIS_SITE

# Tell whether the ledger exists. The first run creates it.
LEDGER_EXISTS = "SELECT to_regclass(%(claim)s) IS NOT NULL"

_SUBMITTED = """
FROM {job_request} j
WHERE status = '{status.SUBMITTED}' AND OF_THIS_SITE
""".replace("OF_THIS_SITE", OF_THIS_SITE)

_NEWEST_FIRST = " ORDER BY dt_job_submitted DESC NULLS LAST, request_id LIMIT %(most)s"

# Return the requests that were submitted before there was a ledger. No run has passed one over.
WITHOUT_LEDGER = "SELECT tag, request_id, coalesce(dt_job_submitted::text, ''), false" + _SUBMITTED + _NEWEST_FIRST

# Return when a run claimed a request of this site last. Each claim takes all that is pending, up to the limits. A claim without a
# run is that of a person who cancelled a request.
_LAST_CLAIM = """
SELECT max(claimed_at) AT TIME ZONE 'utc'
FROM {ledger}.claim c JOIN {job_request} j ON j.tag = c.tag AND j.request_id = c.request_id
WHERE OF_THIS_SITE AND c.run_id <> ''
""".replace("OF_THIS_SITE", OF_THIS_SITE)

# Return the submitted requests that no run holds, and that no run has put back since they were submitted: a run that did so has
# deferred them. A request that a run brought to an outcome was submitted again. In addition, return whether a run has passed
# one over, because of a limit. That is only looked up at the start.
SUBMISSIONS = (
    """
SELECT tag, request_id, coalesce(dt_job_submitted::text, ''),
  (coalesce(dt_job_submitted, '-infinity') < CASE WHEN %(starting)s THEN (LAST_CLAIM) END) IS TRUE
""".replace("LAST_CLAIM", _LAST_CLAIM)
    + _SUBMITTED
    + """
  AND NOT EXISTS (
    SELECT FROM {ledger}.claim c
    WHERE c.tag = j.tag AND c.request_id = j.request_id AND (released_at IS NULL
      OR outcome = '{outcome.SUBMITTED}' AND released_at AT TIME ZONE 'utc' >= coalesce(dt_job_submitted, '-infinity')))
"""
    + _NEWEST_FIRST
)
