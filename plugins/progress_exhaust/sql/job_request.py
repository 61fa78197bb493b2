"""Statements on Postgres that create the table of the requests, where a site has none."""

from progress_exhaust.sql.ledger import JOB_REQUEST_COLUMNS

# Tell whether the table exists.
TABLE_EXISTS = "SELECT to_regclass(%(table)s) IS NOT NULL"

# Tell whether a schema exists.
SCHEMA_EXISTS = "SELECT to_regnamespace(%(schema)s) IS NOT NULL"

# Create the schema of the table. `{schema}` is its quoted name.
CREATE_SCHEMA = "CREATE SCHEMA {schema};\n"

# Create the table as the exhaust API has it. docs/grants/job_request.sql is this same text.
CREATE_JOB_REQUEST = (
    "CREATE TABLE IF NOT EXISTS {job_request} (\n"
    + "".join(f"  {name} {kind},\n" for name, kind in JOB_REQUEST_COLUMNS.items())
    + "  PRIMARY KEY (tag, request_id)\n);\n"
)
