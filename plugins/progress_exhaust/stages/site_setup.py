"""The site: its settings, the Params of a run, and the hooks that follow from them."""

from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from airflow.sdk import Variable

from progress_exhaust.errors import SetupError
from progress_exhaust.report.layout import Layout
from progress_exhaust.report.options import OutputFormat
from progress_exhaust.settings import VARIABLE, Settings, nearest, parse_settings
from progress_exhaust.stages.installation import find_installation
from progress_exhaust.stages.worker_limits import count_processes
from progress_exhaust.staging.batch_folder import BatchFolder

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.cassandra.table_connections import TableConnections
    from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
    from progress_exhaust.hooks.cassandra.user_tables import UserTablesHook
    from progress_exhaust.hooks.content_api import ContentApiHook
    from progress_exhaust.hooks.org_api import OrgApiHook
    from progress_exhaust.hooks.report_store import ReportStoreHook
    from progress_exhaust.hooks.requests.claims import Claims
    from progress_exhaust.hooks.requests.connection import RequestsConnection
    from progress_exhaust.hooks.requests.inspection import DatabaseInspection
    from progress_exhaust.hooks.requests.ledger import Ledger
    from progress_exhaust.hooks.requests.locks import Locks
    from progress_exhaust.hooks.requests.models import Stage
    from progress_exhaust.hooks.requests.packages import Packages
    from progress_exhaust.hooks.requests.releases import Releases
    from progress_exhaust.hooks.requests.submissions import SubmissionWatch
    from progress_exhaust.hooks.requests.write_check import WriteCheck
    from progress_exhaust.hooks.user_cache import UserCacheHook
    from progress_exhaust.hooks.user_source import UserSource
    from progress_exhaust.report.request import Batch
    from progress_exhaust.security.public_key_download import KeySource


RequestsHook = TypeVar("RequestsHook", bound="RequestsConnection")
TablesHook = TypeVar("TablesHook", bound="TableConnections")


@dataclass(frozen=True)
class RunParams:
    """The Params of a run."""

    request_ids: tuple[str, ...] = ()
    batch_ids: tuple[str, ...] = ()  # of a standalone run: these batches, without a row of job_request
    force: bool = False
    release_claims: bool = False  # of other installations, on request_ids
    dry_run: bool = False
    layout: str | None = None
    output_format: OutputFormat | None = None

    @classmethod
    def of(cls, context: "Context") -> "RunParams":
        """Read the Params of a run; raises SetupError for an unknown one."""
        known = [field.name for field in fields(cls)]
        for key in context["dag_run"].conf or {}:
            if key not in known:
                raise SetupError(f"Unknown Param {key} in the run's conf: {nearest(key, known)}")
        params = context["params"]
        if params.get("release_claims") and not params.get("request_ids"):
            raise SetupError("Param release_claims needs request_ids: name the requests whose claims this run may release")
        if params.get("request_ids") and params.get("batch_ids"):
            raise SetupError("Params request_ids and batch_ids: give one of them. A run with batch_ids makes no requests")
        return cls(
            request_ids=tuple(params.get("request_ids") or ()),
            batch_ids=tuple(params.get("batch_ids") or ()),
            force=bool(params.get("force")),
            release_claims=bool(params.get("release_claims")),
            dry_run=bool(params.get("dry_run")),
            layout=params.get("layout"),
            output_format=_output_format(params.get("output_format")),
        )


def _output_format(name: str | None) -> OutputFormat | None:
    """Return the format that a Param names; None if the site's setting decides. Raises SetupError for another name."""
    if name is None:
        return None
    if name not in tuple(OutputFormat):
        raise SetupError(f"Param output_format: there is no format {name!r}. Choose one of: {', '.join(OutputFormat)}")
    return OutputFormat(name)


@dataclass(frozen=True)
class Site:
    """The settings of the site, and the hooks made from them. Each hook is used with `with`, or method by method."""

    settings: Settings
    run_id: str
    task_attempt: int = 1
    installation: str = ""  # id of this Airflow
    dry_run: bool = False

    @property
    def processes(self) -> int:
        """Return how many processes a task may use: the setting, else what the worker has CPUs and memory for."""
        return self.settings.processes_per_task or count_processes()

    @property
    def publisher(self) -> str:
        """Return what names this run among the runs of all installations."""
        return f"{self.installation} {self.run_id}"

    def claims(self) -> "Claims":
        from progress_exhaust.hooks.requests.claims import Claims

        return self._connect(Claims)

    def ledger(self) -> "Ledger":
        from progress_exhaust.hooks.requests.ledger import Ledger

        return self._connect(Ledger)

    def locks(self) -> "Locks":
        from progress_exhaust.hooks.requests.locks import Locks

        return self._connect(Locks)

    def packages(self) -> "Packages":
        from progress_exhaust.hooks.requests.packages import Packages

        return self._connect(Packages)

    def releases(self) -> "Releases":
        from progress_exhaust.hooks.requests.releases import Releases

        return self._connect(Releases)

    def submission_watch(self) -> "SubmissionWatch":
        from progress_exhaust.hooks.requests.submissions import SubmissionWatch

        return self._connect(SubmissionWatch)

    def write_check(self) -> "WriteCheck":
        from progress_exhaust.hooks.requests.write_check import WriteCheck

        return self._connect(WriteCheck)

    def inspection(self) -> "DatabaseInspection":
        from progress_exhaust.hooks.requests.inspection import DatabaseInspection

        return self._connect(DatabaseInspection)

    def learner_tables(self) -> "LearnerTablesHook":
        from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook

        return self._connect_tables(LearnerTablesHook)

    def users(self) -> "UserSource":
        """Return the source of users and optional nodes that the setting chooses."""
        return self.user_cache() if self.settings.user_source == "redis" else self.user_tables()

    @property
    def source_connections(self) -> tuple[str, ...]:
        """Return the connections of the tables and of the users."""
        from progress_exhaust.hooks.user_cache import UserCacheHook

        users = (UserCacheHook.connection_id,) if self.settings.user_source == "redis" else ()
        return (*self.settings.cassandra_connections, *users)

    def user_tables(self) -> "UserTablesHook":
        from progress_exhaust.hooks.cassandra.user_tables import UserTablesHook

        return self._connect_tables(UserTablesHook)

    def user_cache(self) -> "UserCacheHook":
        from progress_exhaust.hooks.user_cache import UserCacheHook

        return UserCacheHook(
            user_db=self.settings.user_cache_db,
            relation_db=self.settings.optional_nodes_db,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def content_api(self) -> "ContentApiHook":
        from progress_exhaust.hooks.content_api import ContentApiHook

        return ContentApiHook(
            search_path=self.settings.content_search_path,
            hierarchy_path=self.settings.content_hierarchy_path,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def org_api(self) -> "OrgApiHook":
        from progress_exhaust.hooks.org_api import OrgApiHook

        return OrgApiHook(
            preferences_path=self.settings.org_preferences_path,
            search_path=self.settings.org_search_path,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def public_keys(self) -> "KeySource":
        from progress_exhaust.security.public_key_download import KeySource

        return KeySource(
            hosts=self.settings.public_key_hosts,
            private_hosts=self.settings.public_key_private_hosts,
            plain_http=self.settings.public_key_plain_http,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def store(self) -> "ReportStoreHook":
        from progress_exhaust.hooks.report_store import ReportStoreHook

        return ReportStoreHook(
            container_url=self.settings.reports_container_url,
            staging_url=self.settings.staging_url,
            installation=self.installation,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def batch_folder(self, batch: "Batch", stage: "Stage", params: RunParams) -> BatchFolder:
        """Return the staging folder of a batch in this run; only the newest attempt of the stage may write to it."""
        locks = self.locks()
        return BatchFolder(
            self.store().batch_folder(self.run_id, batch),
            str(batch),
            # A dry run is not in the ledger.
            nullcontext if params.dry_run else lambda: locks.lock_task_attempt(batch, stage),
        )

    def layout(self, params: RunParams) -> Layout:
        """Return the layout of the run; raises SetupError, with the known ones, for an unknown name."""
        return self.settings.layout_named(params.layout or self.settings.layout)

    def output_format(self, params: RunParams) -> OutputFormat:
        """Return the format of the run's files: that of the Param, else of the layout, else the setting."""
        return params.output_format or self.layout(params).output_format or self.settings.output_format

    def columns_file(self, params: RunParams) -> bool:
        """Return whether the run's packages describe their columns in a file: by the layout, else by the setting."""
        of_layout = self.layout(params).columns_file
        return self.settings.columns_file if of_layout is None else of_layout

    def _connect_tables(self, hook: "type[TablesHook]") -> "TablesHook":
        settings = self.settings
        return hook(
            enrolments=(settings.enrolments_connection, settings.enrolments_table),
            courses=(settings.courses_connection, settings.courses_keyspace),
            hierarchies=(settings.hierarchy_connection, settings.hierarchy_table),
            users_keyspace=settings.users_keyspace,
            consistency=settings.cassandra_consistency,
            keys_per_read=settings.partitions_per_query,
            reads_in_flight=settings.concurrent_queries,
            timeout_seconds=settings.read_timeout_seconds,
            rows_per_page=settings.rows_per_page,
        )

    def _connect(self, hook: "type[RequestsHook]") -> "RequestsHook":
        return hook(
            job_request_table=self.settings.job_request_table,
            ledger_schema=self.settings.ledger_schema,
            installation=self.installation,
            run_id=self.run_id,
            task_attempt=self.task_attempt,
            timeout_seconds=self.settings.read_timeout_seconds,
            dry_run=self.dry_run,
        )


def read_site(context: "Context") -> Site:
    """Read the site's settings, as they are now, for a task of this run."""
    settings, dry_run = parse_settings(Variable.get(VARIABLE, default=None)), bool(context["params"].get("dry_run"))
    site = Site(settings, context["run_id"], context["ti"].try_number, dry_run=dry_run)
    return replace(site, installation=find_installation(site.locks()))


def report_day(context: "Context", settings: Settings) -> date:
    """Return the day on which the run was due, in the report time zone: the same for every retry and rerun."""
    due = context["dag_run"].run_after
    return due.astimezone(ZoneInfo(settings.report_timezone)).date()
