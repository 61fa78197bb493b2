"""Statements for the checks of an installation. They only read."""

# On Postgres

# Return the version and the clock of the server.
SERVER = "SELECT current_setting('server_version'), clock_timestamp()"

# Take a lock as a run does, until the transaction ends; return the isolation level. YugabyteDB may have another one than it says.
ISOLATION_LEVEL = """
SELECT coalesce(current_setting('yb_effective_transaction_isolation_level', true), current_setting('transaction_isolation')),
  pg_advisory_xact_lock(hashtext('progress_exhaust check'))
"""

# Return the rights on the whole table that no run needs: a run updates single columns, and deletes nothing.
EXCESS_RIGHTS = """
SELECT name FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) AS rights (name)
WHERE has_table_privilege(to_regclass(%(table)s), name)
"""

# Return the encryption keys of the newest requests that have one.
NEWEST_ENCRYPTION_KEYS = """
SELECT encryption_key FROM {job_request} WHERE job_id = '{job_id}' AND encryption_key <> ''
ORDER BY dt_job_submitted DESC NULLS LAST LIMIT 5
"""

# On Cassandra. `{role}` is a quoted name.

# Return the role and those that it is a member of: name, superuser, and more.
ROLES = "LIST ROLES OF {role}"

# Return the rights of the role: role, user name, resource and permission.
PERMISSIONS = "LIST ALL PERMISSIONS OF {role}"
