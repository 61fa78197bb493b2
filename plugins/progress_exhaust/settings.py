"""A site's settings: the JSON Variable `progress_exhaust`, validated.

Every setting has a default that works on a stock Sunbird install; an unknown key is an error that names the nearest
right one, so that a spelling mistake never passes for a default.
"""

import difflib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from progress_exhaust.errors import SetupError
from progress_exhaust.report.layout import BUILT_IN, Layout, LayoutColumn, is_time_zone
from progress_exhaust.report.options import ChosenAttempt, ColumnLabels, OutputFormat
from progress_exhaust.security.levels import DefaultLevel, ZipCipher

VARIABLE = "progress_exhaust"

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
TableName = Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_]*\.)?[A-Za-z_][A-Za-z0-9_]*$")]
KeyspaceTable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*$")]
StoreUrl = Annotated[str, StringConstraints(pattern=r"^(file|s3|abfs|abfss|gs)://.+")]  # docs/stores.md
LayoutName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?$", to_lower=True)]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/")]


def _home(folder: str) -> str:
    return (Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "progress-exhaust" / folder).as_uri()


class Settings(BaseModel):
    """A site's settings; what is left out keeps its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    container: StoreUrl = Field(
        default_factory=lambda: _home("reports"), description="URL of the reports container: the finished packages"
    )
    staging: StoreUrl = Field(
        default_factory=lambda: _home("staging"),
        description="URL of the private folder that the stages hand their work on in; readable by every worker",
    )
    allow_public_container: bool = Field(
        False, description="publish even where anybody may download from the container; never a plain zip, nor one by ZipCrypto"
    )
    retention_days: float | None = Field(
        None, gt=0, description="days after which `progress_exhaust_retention` removes a package; none: it keeps them all"
    )
    staging_days: float = Field(
        7, gt=0, description="days after which `progress_exhaust_retention` removes what a run that is over left in staging"
    )
    job_request_table: TableName = Field("job_request", description="Postgres table of the requests, `schema.table` too")
    ledger_schema: Identifier = Field("progress_exhaust", description="Postgres schema of the claims and the ledger")
    enrolments_table: KeyspaceTable = Field(
        "sunbird_courses.report_user_enrolments",
        description="Cassandra table of the enrolments, keyed by batch or by user: its own key is looked up",
    )
    courses_keyspace: Identifier = Field(
        "sunbird_courses", description="keyspace of course_batch, user_activity_agg and assessment_aggregator"
    )
    hierarchy_table: KeyspaceTable = Field(
        "dev_hierarchy_store.content_hierarchy", description="Cassandra table of the collections' trees"
    )
    enrolments_connection: str = Field("progress_exhaust_cassandra", description="connection of the report cluster")
    courses_connection: str = Field("progress_exhaust_cassandra", description="connection of the courses cluster")
    hierarchy_connection: str = Field("progress_exhaust_cassandra", description="connection of the content cluster")
    user_cache_db: int = Field(12, ge=0, description="Redis database of the user cache")
    relation_cache_db: int = Field(5, ge=0, description="Redis database of the optional nodes")
    content_search_path: UrlPath = Field("/v1/search", description="path of the content search below its connection")
    content_hierarchy_path: UrlPath = Field(
        "/v3/hierarchy/{id}", description="path of one collection's tree below the content connection"
    )
    assessment_content_types: tuple[str, ...] = Field(("SelfAssess",), description="contentType of an assessment")
    assessment_object_types: tuple[str, ...] = Field(
        ("QuestionSet",), description="objectType of an assessment, together with its category"
    )
    assessment_categories: tuple[str, ...] = Field(
        ("Practice Question Set",), description="primaryCategory of an assessment, together with its objectType"
    )
    chosen_attempt: ChosenAttempt = Field(ChosenAttempt.BEST, description="which attempt at an assessment counts")
    failed_certificate_statuses: tuple[int, ...] = Field((2,), description="certstatus of an issue that failed")
    layouts: dict[LayoutName, Layout] = Field({}, description="layouts of the site's own, by name: see docs/layouts.md")
    layout: str = Field(
        "standard", description="which columns the report has: standard, sunbird-lern-7, or one of the site's own"
    )
    column_labels: ColumnLabels = Field(
        ColumnLabels.ID, description="dynamic columns as `<id> - Score` or as `<name> (<id>) - Score`"
    )
    report_timezone: str = Field("Asia/Kolkata", description="time zone of the date in a report's file name")
    output_format: OutputFormat = Field(
        OutputFormat.CSV,
        description="what is in the package: csv, or an Excel workbook; over 1,048,575 learners or 16,384 columns the csv comes "
        "instead of the workbook",
    )
    summary_file: bool = Field(
        False,
        description="put summary.txt beside it: as-of time, enrolled, reported, left out and why, what the columns mean; no "
        "summary.txt at TEXT_KEY and PUBLIC_KEY, which would not encrypt it",
    )
    csv_bom: bool = Field(False, description="start the csv with the byte order mark that Excel wants")
    defuse_formulas: bool = Field(True, description="put an apostrophe before what a spreadsheet would run")
    org_preferences: Literal["api", "none"] = Field(
        "api",
        description="where the orgs' security policies and public keys are read: the connection `progress_exhaust_org`; none: no "
        "org of the site has either, and `default_security_level` holds for all",
    )
    org_preferences_path: UrlPath = Field(
        "/private/v2/org/preferences/read", description="path of the orgs' preferences below their connection"
    )
    org_search_path: UrlPath = Field("/private/v2/org/search", description="path of the org search below the same connection")
    default_security_level: DefaultLevel = Field(
        DefaultLevel.STRICTEST,
        description="level of a report whose org's policy states none; strictest: by the org's public key, else by the request's "
        "encryption key (TEXT_KEY), else plain",
    )
    zip_cipher: ZipCipher = Field(
        ZipCipher.AES_256,
        description="cipher of a zip with a password; ZipCrypto, for tools that know no AES, is broken: it keeps nobody out who "
        "tries",
    )
    platform_key: Annotated[str, StringConstraints(pattern=r"^[ -~]{16}$")] = Field(
        "ThisAsISerceKtey", description="Sunbird's constant under the requests' encryption keys, no secret: the salt is"
    )
    public_key_hosts: tuple[Host, ...] = Field(
        (), description="hosts that orgs' public keys may be fetched from: `name`, or `name:port`"
    )
    public_key_private_hosts: tuple[Host, ...] = Field((), description="those of them whose address may be a private one")
    public_key_plain_http: bool = Field(False, description="fetch public keys by http, too")
    missing_users_percent: float = Field(
        20,
        ge=0,
        le=100,
        description="more users missing from the cache than this, in a batch over 100, fail the extract",
    )
    batches_per_request: int = Field(20, ge=1, description="most batches that one request may name")
    batches_per_channel: int = Field(30, ge=1, description="most batches of one requesting org in one run")
    bytes_per_channel: int = Field(
        2**30, ge=1, description="bytes of packages of one requesting org after which its further batches wait for the next run"
    )
    batch_number: int | None = Field(None, description="take only requests with this batch_number; none: all of them")
    channels: tuple[str, ...] = Field((), description="take only requests of these requesting orgs; none named: of all")
    abandoned_after_hours: float = Field(
        24, gt=0, description="how old a PROCESSING request is that no run of ours holds before it counts as left behind"
    )
    batches_per_run: int = Field(1000, ge=1, le=1000, description="most batches of one run; the rest waits for the next")
    wait_seconds: int = Field(0, ge=0, description="how long a run waits for a first request before it is skipped")
    learners_per_part: int = Field(5000, ge=1, description="learners that a stage holds in memory at a time")
    keys_per_read: int = Field(100, ge=1, description="partitions that one Cassandra query asks for")
    reads_in_flight: int = Field(4, ge=1, description="Cassandra queries of one task under way at a time")
    read_strategy: Literal["auto", "partitions", "scan"] = Field(
        "auto",
        description="how nested progress and attempts are read: the learners' partitions, or one scan of the table that the "
        "server filters; auto: by the cluster's estimate of the table's size",
    )
    read_timeout_seconds: float = Field(
        60,
        gt=0,
        description="how long one try of a query, API call or Postgres statement may take, and a put beside 10 s for each MB; "
        "a query of Cassandra has four tries",
    )
    consistency: Literal["LOCAL_QUORUM", "LOCAL_ONE", "QUORUM", "ONE", "ALL"] = Field(
        "LOCAL_QUORUM", description="consistency level of the Cassandra reads"
    )

    processes_per_task: int | None = Field(
        None,
        ge=1,
        le=64,
        description="processes of extract and of pivot, for a batch of more than one part; none: one a core. An Excel workbook "
        "is written by one",
    )

    @property
    def cassandra_connections(self) -> tuple[str, ...]:
        return (self.enrolments_connection, self.courses_connection, self.hierarchy_connection)

    def layout_named(self, name: str) -> Layout:
        """Return a layout; raises SetupError, with the ones that there are, for a name that none has."""
        try:
            return _find_layout(name, BUILT_IN | self.layouts)
        except ValueError as error:
            raise SetupError(str(error)) from None

    @field_validator("layouts")
    @classmethod
    def _new_names(cls, layouts: dict[str, Layout]) -> dict[str, Layout]:
        for name in layouts:
            if name in BUILT_IN:
                raise ValueError(f"{name} is a built-in layout; take another name, and like: {name}")
        return layouts

    @field_validator("layout")
    @classmethod
    def _known_layout(cls, name: str, values: ValidationInfo) -> str:
        if "layouts" in values.data:  # else these have mistakes of their own
            _find_layout(name, BUILT_IN | values.data["layouts"])
        return name

    @field_validator("report_timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        if not is_time_zone(name):
            raise ValueError("is no IANA time zone, such as Asia/Kolkata")
        return name

    @model_validator(mode="after")
    def _staging_apart(self) -> "Settings":
        container, staging = (f"{url.rstrip('/')}/" for url in (self.container, self.staging))
        if staging.startswith(container) or container.startswith(staging):
            raise ValueError(
                "container and staging must lie apart: what is staged is for nobody, what is published for requesters"
            )
        return self

    @field_validator("content_hierarchy_path")
    @classmethod
    def _has_id(cls, path: str) -> str:
        if "{id}" not in path:
            raise ValueError("must contain {id}, where the collection's id goes")
        return path

    @model_validator(mode="after")
    def _public_keys_have_a_source(self) -> Self:
        if self.org_preferences == "none" and self.default_security_level is DefaultLevel.PUBLIC_KEY:
            raise ValueError("default_security_level: PUBLIC_KEY_ENCRYPTED_DATASET needs org_preferences api, for the orgs' keys")
        return self


def _find_layout(name: str, layouts: dict[str, Layout]) -> Layout:
    if name not in layouts:
        raise ValueError(f"there is no layout {name!r}; there are {', '.join(layouts)}, and the setting layouts may have more")
    return layouts[name]


def parse_settings(text: str | None) -> Settings:
    """Read the Variable's text; None, for a site that set none, gives the defaults.

    Raises SetupError with every mistake in words.
    """
    if text is None or not text.strip():
        return Settings()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SetupError(f"Variable {VARIABLE} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise SetupError(f"Variable {VARIABLE} must be a JSON object of settings, not {type(values).__name__}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SetupError(f"Variable {VARIABLE}: " + "; ".join(_in_words(mistake) for mistake in error.errors())) from None


def nearest(name: str, right: list[str]) -> str:
    """Say which right name was probably meant, or which there are."""
    close = difflib.get_close_matches(name, right, n=1)
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(sorted(right))


def _in_words(mistake: Any) -> str:
    where = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        # layouts.<name>.<key>, or layouts.<name>.columns.<place>.<key>
        models: dict[int, type[BaseModel]] = {1: Settings, 3: Layout, 5: LayoutColumn}
        return f"unknown setting {where}; {nearest(mistake['loc'][-1], list(models[len(mistake['loc'])].model_fields))}"
    words = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{where}: {words}" if where else words
