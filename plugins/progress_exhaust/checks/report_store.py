"""Check the reports container and staging. It writes files of its own, and deletes them: the only writes of all checks."""

import uuid
from collections.abc import Iterator

from progress_exhaust.checks.findings import Finding, Result, describe_tls, guarded, passed, warned
from progress_exhaust.hooks.report_store import ReportStoreHook, delete_folder
from progress_exhaust.report.request import JOB_ID
from progress_exhaust.settings import Settings
from progress_exhaust.stages.protection import describe_public, is_allowed_public
from progress_exhaust.stages.site_setup import Site

REPORTS, STAGING = "reports_container_url", "staging_url"


def check_report_store(site: Site) -> Iterator[Finding]:
    """Check that packages can be published, and that no one else can read them or staging."""
    store = site.store()
    yield from guarded("reports container", REPORTS, lambda: _write_reports(store))
    yield from guarded("public container", REPORTS, lambda: _look_for_public(store, site.settings))
    yield from guarded("TLS of the store", REPORTS, lambda: [describe_tls(store.tls())])
    # Retention deletes the folder of such a run, if this process is killed before it deletes it.
    run_id = f"manual__check-{uuid.uuid4().hex}"
    yield from guarded("staging", STAGING, lambda: _write_staging(store, run_id))
    yield from guarded("public staging", STAGING, lambda: _look_for_public_staging(store, run_id))


def _write_reports(store: ReportStoreHook) -> Iterator[Result]:
    not_deleted = store.write_probe(f"{JOB_ID}/check/probe")
    yield (
        warned(f"{not_deleted}. Let the login delete there: retention needs it")
        if not_deleted
        else passed("write, read and delete work")
    )


def _look_for_public(store: ReportStoreHook, settings: Settings) -> Iterator[Result]:
    if is_allowed_public(settings, store):
        yield warned(f"{describe_public(settings)}. The setting allow_public_container allows it")
    else:
        yield passed("private")


def _write_staging(store: ReportStoreHook, run_id: str) -> Iterator[Result]:
    if store.probe_staging(run_id):
        yield passed("write, read and delete work")
    else:
        yield warned("The store does not delete several files at once: runs end later. Let the login do so, if the store can")


def _look_for_public_staging(store: ReportStoreHook, run_id: str) -> Iterator[Result]:
    try:
        store.check_staging_is_private(run_id)
    finally:
        delete_folder(store.run_folder(run_id))
    yield passed("private")
