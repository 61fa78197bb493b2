"""Delete what has been kept for long enough: published packages, and the staging of ended runs."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.names import ENDED_RUN_STATES
from progress_exhaust.stages.airflow_runs import run_state
from progress_exhaust.stages.base_operator import BaseTaskOperator
from progress_exhaust.stages.progress import format_counts
from progress_exhaust.stages.site_setup import RunParams, Site

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.report_store import ReportStoreHook, StoredFile

# The ids that Airflow gives to runs. A folder with another name belongs to a run only if Airflow knows that run.
RUN_ID = re.compile(r"(scheduled|manual|backfill|operator_triggered|asset_triggered|asset_materialization)__")


class RemoveOldFilesOperator(BaseTaskOperator):
    """Delete packages older than `retention_days`, and staging of ended runs in which nothing changed for `staging_days`.

    A dry run deletes nothing. What cannot be deleted fails the task, after everything else is deleted.
    Returns the number of both, and their bytes.
    """

    def run(self, context: "Context", site: Site, params: RunParams) -> dict[str, int]:
        from progress_exhaust.hooks.report_store import delete_folder

        store, now = site.store(), datetime.now(UTC)
        counts = Counter(packages=0, package_bytes=0, staged_runs=0, staged_bytes=0)
        verb = "Would delete" if params.dry_run else "Deleted"
        errors: list[ProgressExhaustError] = []

        def deleted(what: str, delete: Callable[[], object]) -> bool:
            """Delete something unless this is a dry run; return False if it cannot be deleted, so that the others still are."""
            try:
                if not params.dry_run:
                    delete()
            except ProgressExhaustError as error:
                self.log.warning("Not deleted: %s: %s", what, error)
                errors.append(error)
                return False
            return True

        for package in self._old_packages(store, site, now):
            if deleted(package.name, partial(store.delete_package, package.name)):
                self.log.info("%s %s: bytes=%d date=%s", verb, package.name, package.size_bytes, f"{package.changed_at:%F}")
                counts.update(packages=1, package_bytes=package.size_bytes)
        for folder, size_bytes in self._old_runs(context, store, site, now).items():
            run_id = folder.rpartition("/")[2]
            what = f"staging of run {run_id}, which has learner data"
            if deleted(what, partial(delete_folder, store.staged_folder(folder))):
                self.log.info("%s staging of run %s: bytes=%d", verb, run_id, size_bytes)
                counts.update(staged_runs=1, staged_bytes=size_bytes)
        self.log.info("%s: %s", verb, format_counts(counts))
        if errors:
            raise type(errors[0])(f"not_deleted={len(errors)}: the warnings above name each. The first error: {errors[0]}")
        return dict(counts)

    def _old_packages(self, store: "ReportStoreHook", site: Site, now: datetime) -> "list[StoredFile]":
        days = site.settings.retention_days
        if days is None:
            self.log.info("retention_days is not set: every package is kept")
            return []
        before = now - timedelta(days=days)
        return [package for package in store.packages() if package.changed_at < before]

    def _old_runs(self, context: "Context", store: "ReportStoreHook", site: Site, now: datetime) -> dict[str, int]:
        """Return the bytes in staging of each ended run of this installation, by the name of its folder.

        What other installations left there is only reported: only they know whether they still need it.
        """
        before = now - timedelta(days=site.settings.staging_days)
        newest: dict[str, datetime] = {}
        size_bytes: Counter[str] = Counter()
        run_ids: dict[str, str | None] = {}
        for folder, run_id, file in store.staged_files():
            run_ids[folder] = run_id
            newest[folder] = max(newest.get(folder, file.changed_at), file.changed_at)
            size_bytes[folder] += file.size_bytes
        old: dict[str, int] = {}
        for folder in sorted(folder for folder, changed_at in newest.items() if changed_at < before):
            run_id = run_ids[folder]
            if run_id is None:
                self.log.warning(
                    "Learner data of another installation stays in staging: folder=%s bytes=%d date=%s. If that Airflow is shut "
                    "down, delete the folder",
                    folder,
                    size_bytes[folder],
                    f"{newest[folder]:%F}",
                )
            elif self._has_ended(context, run_id):
                old[folder] = size_bytes[folder]
        return old

    def _has_ended(self, context: "Context", run_id: str) -> bool:
        state = run_state(context, run_id)
        ended = state in ENDED_RUN_STATES or (state is None and RUN_ID.match(run_id) is not None)
        if not ended:
            self.log.info(
                "Kept staging %s: %s", run_id, "it does not belong to a run" if state is None else f"its run is {state}"
            )
        return ended
