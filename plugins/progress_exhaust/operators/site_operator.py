"""What every task shares: the site's settings, the run's Params, and which errors a retry can mend."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import BaseOperator, Variable
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from progress_exhaust.errors import ClaimLostError, SetupError
from progress_exhaust.report.layout import Layout
from progress_exhaust.settings import VARIABLE, Settings, nearest, parse_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
    from progress_exhaust.hooks.content_api import ContentApiHook
    from progress_exhaust.hooks.job_requests import RequestsHook
    from progress_exhaust.hooks.org_api import OrgApiHook
    from progress_exhaust.hooks.public_key import KeySource
    from progress_exhaust.hooks.report_store import ReportStoreHook
    from progress_exhaust.hooks.user_cache import UserCacheHook


FIRST_COUNTS = ("enrolled", "reported", "found", "claimed")


@dataclass(frozen=True)
class RunParams:
    """The Params of a run."""

    request_ids: tuple[str, ...] = ()
    batch_ids: tuple[str, ...] = ()  # a standalone run: these batches, and no request's row
    force: bool = False
    dry_run: bool = False
    layout: str | None = None

    @classmethod
    def of(cls, context: "Context") -> "RunParams":
        """Read a run's Params; raises SetupError for a key that none has."""
        known = [field.name for field in fields(cls)]
        for key in context["dag_run"].conf or {}:
            if key not in known:
                raise SetupError(f"unknown Param {key} in the run's conf; {nearest(key, known)}")
        params = context["params"]
        return cls(
            request_ids=tuple(params.get("request_ids") or ()),
            batch_ids=tuple(params.get("batch_ids") or ()),
            force=bool(params.get("force")),
            dry_run=bool(params.get("dry_run")),
            layout=params.get("layout"),
        )


@dataclass(frozen=True)
class Site:
    """The settings, and the hooks that they make; each is used with `with`, or method by method."""

    settings: Settings
    run_id: str
    try_number: int = 1  # of the task

    @property
    def processes(self) -> int:
        """Return how many processes a task may use: the setting's, else one for each core that it may run on."""
        return self.settings.processes_per_task or len(os.sched_getaffinity(0))

    def requests(self) -> "RequestsHook":
        from progress_exhaust.hooks.job_requests import RequestsHook

        return RequestsHook(
            run_id=self.run_id,
            job_request_table=self.settings.job_request_table,
            ledger_schema=self.settings.ledger_schema,
            timeout_seconds=self.settings.read_timeout_seconds,
            try_number=self.try_number,
        )

    def learner_tables(self) -> "LearnerTablesHook":
        from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook

        settings = self.settings
        return LearnerTablesHook(
            enrolments=(settings.enrolments_connection, settings.enrolments_table),
            courses=(settings.courses_connection, settings.courses_keyspace),
            hierarchies=(settings.hierarchy_connection, settings.hierarchy_table),
            consistency=settings.consistency,
            keys_per_read=settings.keys_per_read,
            reads_in_flight=settings.reads_in_flight,
            timeout_seconds=settings.read_timeout_seconds,
        )

    def user_cache(self) -> "UserCacheHook":
        from progress_exhaust.hooks.user_cache import UserCacheHook

        return UserCacheHook(
            user_db=self.settings.user_cache_db,
            relation_db=self.settings.relation_cache_db,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def content_api(self) -> "ContentApiHook":
        from progress_exhaust.hooks.content_api import ContentApiHook

        return ContentApiHook(
            search_path=self.settings.content_search_path,
            hierarchy_path=self.settings.content_hierarchy_path,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def layout(self, params: RunParams) -> Layout:
        """Return the run's layout; raises SetupError, with the ones that there are, for a name that none has."""
        return self.settings.layout_named(params.layout or self.settings.layout)

    def org_api(self) -> "OrgApiHook":
        from progress_exhaust.hooks.org_api import OrgApiHook

        return OrgApiHook(
            preferences_path=self.settings.org_preferences_path,
            search_path=self.settings.org_search_path,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def public_keys(self) -> "KeySource":
        from progress_exhaust.hooks.public_key import KeySource

        return KeySource(
            hosts=self.settings.public_key_hosts,
            private_hosts=self.settings.public_key_private_hosts,
            plain_http=self.settings.public_key_plain_http,
            timeout_seconds=self.settings.read_timeout_seconds,
        )

    def store(self) -> "ReportStoreHook":
        from progress_exhaust.hooks.report_store import ReportStoreHook

        return ReportStoreHook(
            container=self.settings.container,
            staging=self.settings.staging,
            timeout_seconds=self.settings.read_timeout_seconds,
        )


def read_site(context: "Context") -> Site:
    """Read the site's settings, as they are now, for a task of this run."""
    return Site(parse_settings(Variable.get(VARIABLE, default=None)), context["run_id"], context["ti"].try_number)


def report_day(context: "Context", settings: Settings) -> date:
    """Return the day that the run was due, in the report's time zone: the same at each retry and rerun."""
    due = context["dag_run"].run_after
    return due.astimezone(ZoneInfo(settings.report_timezone)).date()


@contextmanager
def no_retry_mends() -> Iterator[None]:
    """Fail the task at once for what an engineer has to mend; everything else is tried again."""
    try:
        yield
    except (SetupError, ClaimLostError) as error:
        raise AirflowFailException(str(error)) from None
    except AirflowNotFoundException as error:
        raise AirflowFailException(f"{error}: add the connection in Airflow; docs/configuration.md lists them all") from None


class SiteOperator(BaseOperator):
    """A task of this package: `work` does it."""

    def execute(self, context: "Context") -> Any:
        with no_retry_mends():
            return self.work(context, read_site(context), RunParams.of(context))

    def work(self, context: "Context", site: Site, params: RunParams) -> Any:
        raise NotImplementedError


def in_words(counts: Mapping[str, int]) -> str:
    """Write counts as one line for a person, what the report is about first."""
    counts = {name: counts[name] for name in sorted(counts, key=lambda name: (name not in FIRST_COUNTS, name))}
    return ", ".join(f"{number:,} {name.replace('_', ' ').replace('.', ': ')}" for name, number in counts.items() if number)
