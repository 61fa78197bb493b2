"""All settings, with their defaults and meanings. The defaults work on a stock Sunbird installation.

`python dev/docs.py` writes the tables of docs/reference/settings.md from this model.
"""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from progress_exhaust.settings.field_types import MAIN, Identifier, KeyspaceTable, StoreUrl, TableName, UrlPath
from progress_exhaust.settings.protection import Protection
from progress_exhaust.settings.report_contents import ReportContents


def _default_url(folder: str) -> str:
    return (Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "progress-exhaust" / folder).as_uri()


class Settings(Protection, ReportContents):
    """The settings of a site. A setting that the site does not set has its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Where reports and staging are stored

    reports_container_url: StoreUrl = Field(
        default_factory=lambda: _default_url("reports"),
        description="URL of the reports container, where finished packages are published.",
        json_schema_extra=MAIN,
    )
    staging_url: StoreUrl = Field(
        default_factory=lambda: _default_url("staging"),
        description="URL of the private folder for files between the stages. Every worker must be able to read and write it.",
        json_schema_extra=MAIN,
    )
    retention_days: float | None = Field(
        90,
        gt=0,
        description="`progress_exhaust_retention` deletes a package this many days after it was published. `null`: it keeps all "
        "packages.",
        json_schema_extra=MAIN,
    )
    retention_of_other_packages: bool = Field(
        False,
        description="`progress_exhaust_retention` also deletes old packages of a request and batch that no run in the ledger has "
        "made, such as those of the Spark job.",
    )
    staging_days: float = Field(
        7, gt=0, description="`progress_exhaust_retention` deletes the staging files of a finished run after this many days."
    )
    allow_public_container: bool = Field(
        False,
        description="Publish even if anonymous users can download from the reports container. A plain zip or a ZipCrypto zip is "
        "never published there.",
    )

    # Sources

    job_request_table: TableName = Field(
        "job_request", description="Postgres table of the requests: `table` or `schema.table`.", json_schema_extra=MAIN
    )
    ledger_schema: Identifier = Field("progress_exhaust", description="Postgres schema of the ledger.")
    enrolments_table: KeyspaceTable = Field(
        "sunbird_courses.report_user_enrolments",
        description="Cassandra table of the enrolments. Its partition key may be the batch or the user, with or without an index "
        "on the course; the DAG detects which.",
        json_schema_extra=MAIN,
    )
    courses_keyspace: Identifier = Field(
        "sunbird_courses", description="Cassandra keyspace of course_batch, user_activity_agg and assessment_aggregator."
    )
    hierarchy_table: KeyspaceTable = Field(
        "dev_hierarchy_store.content_hierarchy",
        description="Cassandra table of the collection trees. The keyspace often starts with the name of the environment.",
        json_schema_extra=MAIN,
    )
    enrolments_connection: str = Field(
        "progress_exhaust_cassandra", description="Airflow connection of the Cassandra cluster with the enrolments."
    )
    courses_connection: str = Field(
        "progress_exhaust_cassandra", description="Airflow connection of the Cassandra cluster with `courses_keyspace`."
    )
    hierarchy_connection: str = Field(
        "progress_exhaust_cassandra", description="Airflow connection of the Cassandra cluster with the collection trees."
    )
    user_source: Literal["redis", "tables"] = Field(
        "redis",
        description="Where users and optional nodes come from. `redis`: the user cache and the course relation cache. `tables`: "
        "the Cassandra tables user, location and organisation of `users_keyspace`, and hierarchy_relations in the keyspace of "
        "`hierarchy_table`.",
        json_schema_extra=MAIN,
    )
    users_keyspace: Identifier = Field(
        "sunbird",
        description="Cassandra keyspace of user, location and organisation, on the cluster of `courses_connection`. Read only if "
        "`user_source` is `tables`.",
    )
    user_cache_db: int = Field(12, ge=0, description="Number of the Redis database with the user cache.")
    optional_nodes_db: int = Field(5, ge=0, description="Number of the Redis database with the optional nodes of collections.")
    content_search_path: UrlPath = Field("/v1/search", description="Path of the content search API below its connection.")
    content_hierarchy_path: UrlPath = Field(
        "/v3/hierarchy/{id}", description="Path of the API for one collection tree, below the content connection."
    )

    # Which requests a run takes, and limits

    channels: tuple[str, ...] = Field((), description="Take only requests of these requesting orgs. Empty: of all orgs.")
    batch_number: int | None = Field(None, description="Take only requests with this batch_number. Not set: all requests.")
    batches_per_request: int = Field(20, ge=1, description="Largest number of batches that one request may name.")
    batches_per_channel: int = Field(
        30,
        ge=1,
        description="Largest number of batches that one requesting org gets with the date of one day. The others wait for a run "
        "of the next day.",
    )
    bytes_per_channel: int = Field(
        2**30,
        ge=1,
        description="Total size of one requesting org's packages with the date of one day. When it is reached, the org's other "
        "batches wait for a run of the next day.",
    )
    batches_per_run: int = Field(
        50,
        ge=1,
        le=1000,
        description="Largest number of requests and of batches in one run. A run that leaves some starts the next run at once.",
    )
    abandoned_processing_hours: float = Field(
        24,
        gt=0,
        description="A PROCESSING request that no run of this DAG holds counts as abandoned this many hours after it was "
        "submitted. The next run then takes it.",
    )
    wait_for_requests_seconds: int = Field(
        0, ge=0, description="Time that a run waits for a first request before the run is skipped."
    )

    request_poll_seconds: float = Field(
        5,
        gt=0,
        description="How often the trigger looks for new requests, if `PROGRESS_EXHAUST_ON_REQUEST` is `true`. A change takes up "
        "to five minutes.",
    )

    # Performance

    learners_per_chunk: int = Field(
        5000,
        ge=1,
        description="Number of learners that a stage holds in memory at once. They are fewer if the course has many nested "
        "collections and assessments.",
    )
    processes_per_task: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Processes of extract and of pivot for a batch of more than one chunk. Not set: one per CPU of the worker, "
        "and at most one per 600 MiB of its memory limit. One process writes an Excel workbook.",
    )
    read_strategy: Literal["auto", "partitions", "scan"] = Field(
        "auto",
        description="How nested progress and assessment attempts are read: the partitions of the learners, or one scan of the "
        "table that the server filters. `auto` decides from the cluster's estimate of the table size. `scan` also scans "
        "enrolments that have an index on the course. Attempts that are keyed by batch are never scanned.",
    )
    partitions_per_query: int = Field(
        100, ge=1, description="Number of partitions that one Cassandra query reads. A task lowers it if the cluster refuses it."
    )
    rows_per_page: int = Field(
        1000, ge=1, description="Number of rows that Cassandra returns at a time. A task lowers it if the cluster refuses it."
    )
    concurrent_queries: int = Field(4, ge=1, description="Number of Cassandra queries that one task runs at the same time.")
    read_timeout_seconds: float = Field(
        60,
        gt=0,
        description="Timeout of one Cassandra query, API call or Postgres statement. An upload gets 10 s more per MB. A "
        "Cassandra query is tried four times.",
    )
    cassandra_consistency: Literal["LOCAL_QUORUM", "LOCAL_ONE", "QUORUM", "ONE", "ALL"] = Field(
        "LOCAL_QUORUM", description="Consistency level of Cassandra reads."
    )

    @property
    def cassandra_connections(self) -> tuple[str, ...]:
        return (self.enrolments_connection, self.courses_connection, self.hierarchy_connection)

    @field_validator("content_hierarchy_path")
    @classmethod
    def _check_hierarchy_path(cls, path: str) -> str:
        if "{id}" not in path:
            raise ValueError("must contain {id} in the place of the collection id")
        return path

    @model_validator(mode="after")
    def _check_staging_is_separate(self) -> Self:
        reports, staging = (f"{url.rstrip('/')}/" for url in (self.reports_container_url, self.staging_url))
        if staging.startswith(reports) or reports.startswith(staging):
            raise ValueError(
                "reports_container_url and staging_url must be separate folders: staging is private, and requesters can read the "
                "reports container"
            )
        return self
