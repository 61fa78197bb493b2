"""Statements on Postgres that every transaction shares: time limits, and whether the tables are as we need them.

In all statements on Postgres, `{job_request}` and `{ledger}` stand for the quoted table and schema of the settings. Constants of
`hooks.requests.models` are `{status.…}`, `{outcome.…}`, `{state.…}`, `{stage.…}`, `{job_id}`, `{deferred_bytes}` and
`{max_failures}`.
"""

# Release the locks of a frozen or lost client after 30 seconds. Postgres before 14 lacks the last setting, which ends the wait of
# a client that has hung up.
LIMIT_IDLE_TIME = """
SELECT set_config(name, value, true)
FROM (VALUES ('idle_in_transaction_session_timeout', '30s'), ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'),
  ('tcp_keepalives_count', '3'), ('client_connection_check_interval', '10s')) AS wanted (name, value)
WHERE current_setting(name, true) IS NOT NULL
"""

# Keep this transaction open while a task works elsewhere for minutes, whatever limits the server has.
ALLOW_LONG_WORK = """
SELECT set_config(name, value, true)
FROM (VALUES ('statement_timeout', '0'), ('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0')) AS w (name, value)
"""

# Keep this transaction open while a file is stored, for a limited time: a frozen process must not block its retries for ever.
ALLOW_LONG_PUT = """
SELECT set_config(name, value, true)
FROM (VALUES ('statement_timeout', '0'), ('lock_timeout', '0'),
  ('idle_in_transaction_session_timeout', %(milliseconds)s::bigint::text)) AS w (name, value)
"""

# End a statement of the page or the trigger after 20 seconds. A person waits for the page.
LIMIT_READS = "SET LOCAL statement_timeout = '20s'"

# After the ledger was created in the same transaction: names of tables mean again what they meant before.
RESET_SEARCH_PATH = "SET LOCAL search_path TO DEFAULT"

# Return each column of a table, with the longest text that fits into it (null: any length).
TABLE_COLUMNS = """
SELECT attname, CASE WHEN atttypid = 'varchar'::regtype AND atttypmod > 4 THEN atttypmod - 4 END
FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
"""

# Tell whether the ledger exists and has the columns and the index that were added or renamed last.
LEDGER_IS_CURRENT = """
SELECT count(*) = 6 AND to_regclass(%(index)s) IS NOT NULL FROM pg_attribute
WHERE attrelid = to_regclass(%(claim)s) AND attname IN ('installation', 'batch_ids')
  OR attrelid = to_regclass(%(batch_run)s) AND attname IN ('installation', 'permanent', 'batch_name', 'protection_level')
"""
