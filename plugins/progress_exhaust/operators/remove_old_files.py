"""Removes what has been kept for long enough: published packages, and what runs that are over left in staging."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from progress_exhaust.operators.selection import ENDED, run_state
from progress_exhaust.operators.site_operator import RunParams, Site, SiteOperator, in_words

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.report_store import ReportStoreHook, StoredFile

# The ids that Airflow gives to runs: a folder of another name is a run's only where Airflow knows it.
RUN_ID = re.compile(r"(scheduled|manual|backfill|operator_triggered|asset_triggered|asset_materialization)__")


class RemoveOldFilesOperator(SiteOperator):
    """Removes packages older than `retention_days`, and staging of ended runs in which nothing changed for `staging_days`.

    A dry run removes nothing. Returns how many of each there were, and their bytes.
    """

    def work(self, context: "Context", site: Site, params: RunParams) -> dict[str, int]:
        from progress_exhaust.hooks.report_store import remove_folder

        store, now, counts = site.store(), datetime.now(UTC), Counter()
        verb = "Would remove" if params.dry_run else "Removed"
        for package in self._old_packages(store, site, now):
            if not params.dry_run:
                store.remove_package(package.name)
            self.log.info("%s %s, %s bytes, of %s", verb, package.name, f"{package.size_bytes:,}", f"{package.changed_at:%F}")
            counts.update(packages=1, package_bytes=package.size_bytes)
        for run_id, size_bytes in self._old_runs(context, store, site, now).items():
            if not params.dry_run:
                remove_folder(store.run_folder(run_id))
            self.log.info("%s staging of run %s, %s bytes", verb, run_id, f"{size_bytes:,}")
            counts.update(staged_runs=1, staged_bytes=size_bytes)
        self.log.info("%s in all: %s", verb, in_words(counts) or "nothing")
        return dict(counts)

    def _old_packages(self, store: "ReportStoreHook", site: Site, now: datetime) -> "list[StoredFile]":
        days = site.settings.retention_days
        if days is None:
            self.log.info("retention_days is not set: every package is kept")
            return []
        before = now - timedelta(days=days)
        return [package for package in store.packages() if package.changed_at < before]

    def _old_runs(self, context: "Context", store: "ReportStoreHook", site: Site, now: datetime) -> dict[str, int]:
        """Return the bytes in staging by run, of runs that are over."""
        before = now - timedelta(days=site.settings.staging_days)
        newest: dict[str, datetime] = {}
        size_bytes: Counter[str] = Counter()
        for file in store.staged_files():
            run_id = file.name.partition("/")[0]
            newest[run_id] = max(newest.get(run_id, file.changed_at), file.changed_at)
            size_bytes[run_id] += file.size_bytes
        old = sorted(run_id for run_id, changed_at in newest.items() if changed_at < before)
        return {run_id: size_bytes[run_id] for run_id in old if self._is_over(context, run_id)}

    def _is_over(self, context: "Context", run_id: str) -> bool:
        state = run_state(context, run_id)
        over = state in ENDED or (state is None and RUN_ID.match(run_id) is not None)
        if not over:
            self.log.info("Kept staging %s: %s", run_id, "it is no run's" if state is None else f"its run is {state}")
        return over
