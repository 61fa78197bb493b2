"""The list of all checks, for the command line and for a task."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from progress_exhaust.checks.airflow_setup import POOL, check_disk, check_pool, check_salt, check_variable
from progress_exhaust.checks.findings import Check, Finding, Result, guarded
from progress_exhaust.checks.learner_tables import check_cluster
from progress_exhaust.checks.report_store import REPORTS, check_report_store
from progress_exhaust.checks.requests_database import WHERE as REQUESTS
from progress_exhaust.checks.requests_database import check_requests_database
from progress_exhaust.checks.user_cache import WHERE as USERS
from progress_exhaust.checks.user_cache import check_user_cache
from progress_exhaust.checks.web_apis import CONTENT, ORG, check_content_api, check_org_api
from progress_exhaust.hooks.salt import CONNECTION_ID as SALT
from progress_exhaust.settings import VARIABLE, valid_settings
from progress_exhaust.stages.site_setup import Site

ANSWER_SECONDS = 20  # the most that one answer of a server may take here


def all_checks(variable: str | None, *, sees_pools: bool) -> list[Check]:
    """Return the checks of an installation.

    :param variable: the text of the Variable. The checks use the defaults in place of its mistakes
    :param sees_pools: whether this process can read Airflow's database; a task cannot
    """
    settings = valid_settings(variable)
    limit = {"read_timeout_seconds": min(settings.read_timeout_seconds, ANSWER_SECONDS)}
    site = Site(settings.model_copy(update=limit), run_id="check")
    pool = [_single("pool", POOL, check_pool)] if sees_pools else []
    return [
        _single("settings", f"Variable {VARIABLE}", partial(check_variable, variable)),
        *pool,
        Check("Postgres", REQUESTS, partial(check_requests_database, site)),
        *(Check("Cassandra", name, partial(check_cluster, site, name)) for name in dict.fromkeys(settings.cassandra_connections)),
        *([Check("Redis", USERS, partial(check_user_cache, site))] if settings.user_source == "redis" else []),
        Check("content API", CONTENT, partial(check_content_api, site)),
        Check("org API", ORG, partial(check_org_api, site)),
        _single("salt", SALT, partial(check_salt, site)),
        Check("store", REPORTS, partial(check_report_store, site)),
        _single("disk", "this machine", partial(check_disk, settings)),
    ]


def _single(name: str, where: str, find: Callable[[], Iterable[Result]]) -> Check:
    def findings() -> Iterator[Finding]:
        return guarded(name, where, find)

    return Check(name, where, findings)
