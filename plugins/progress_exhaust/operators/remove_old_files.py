"""Delete what has been kept for long enough: published packages, and the staging of ended runs."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.stages.base_operator import BaseTaskOperator
from progress_exhaust.stages.old_staging import StagedRun, ended_runs, staged_runs
from progress_exhaust.stages.progress import format_counts
from progress_exhaust.stages.site_setup import RunParams, Site

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.report_store import ReportStoreHook, StoredFile


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

        # First, because it is in clear, and does not need the ledger.
        for run in self._old_runs(context, store, site, now):
            what = f"staging of run {run.run_id}, which has learner data"
            if deleted(what, partial(delete_folder, store.staged_folder(run.folder))):
                self.log.info("%s staging of run %s: bytes=%d", verb, run.run_id, run.size_bytes)
                counts.update(staged_runs=1, staged_bytes=run.size_bytes)
        for package in self._old_packages(store, site, now):
            if deleted(package.name, partial(store.delete_package, package.name)):
                self.log.info("%s %s: bytes=%d date=%s", verb, package.name, package.size_bytes, f"{package.changed_at:%F}")
                counts.update(packages=1, package_bytes=package.size_bytes)
        self.log.info("%s: %s", verb, format_counts(counts))
        if errors:
            raise type(errors[0])(f"not_deleted={len(errors)}: the warnings above name each. The first error: {errors[0]}")
        return dict(counts)

    def _old_packages(self, store: "ReportStoreHook", site: Site, now: datetime) -> "list[StoredFile]":
        """Return the packages to delete. What no run in the ledger has published is kept, unless the site wants it deleted."""
        from progress_exhaust.report.request import batch_of_package

        days = site.settings.retention_days
        if days is None:
            self.log.info("retention_days is null: every package is kept")
            return []
        before = now - timedelta(days=days)
        old = [package for package in store.packages() if package.changed_at < before]
        if site.settings.retention_of_other_packages:
            return old
        site.ledger().prepare()
        batches = {package.name: batch_of_package(package.name) for package in old}
        published = site.packages().published(filter(None, batches.values()))
        others = [package for package in old if (batch := batches[package.name]) and batch not in published]
        if others:
            self.log.warning(
                "Old packages that no run in the ledger has published are kept: packages=%d bytes=%d. Another program made them, "
                "such as the Spark job. To delete them too, set retention_of_other_packages",
                len(others),
                sum(package.size_bytes for package in others),
            )
        kept = {package.name for package in others}
        return [package for package in old if package.name not in kept]

    def _old_runs(self, context: "Context", store: "ReportStoreHook", site: Site, now: datetime) -> list[StagedRun]:
        """Return the ended runs of this installation whose staging is old.

        What other installations left there is only reported: only they know whether they still need it.
        """
        old = staged_runs(store, now - timedelta(days=site.settings.staging_days))
        for run in old:
            if run.run_id is None:
                self.log.warning(
                    "Learner data of another installation stays in staging: folder=%s bytes=%d date=%s. If that Airflow is shut "
                    "down, delete the folder",
                    run.folder,
                    run.size_bytes,
                    f"{run.changed_at:%F}",
                )
        return list(ended_runs(context, old, self.log))
