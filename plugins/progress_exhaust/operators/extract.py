"""Second stage: the facts of the batch's learners, page by page."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from progress_exhaust.errors import SourceError
from progress_exhaust.operators.stage import EXTRACT_FILE, FACTS_FILE, HIERARCHY_FILE, StageOperator, Work

if TYPE_CHECKING:
    from progress_exhaust.hooks.learner_tables import LearnerTablesHook
    from progress_exhaust.report.learners import Enrolment

SECONDS_BETWEEN_NEWS = 5
SCAN_FILE = "scan.json"


class ExtractOperator(StageOperator):
    """Reads enrolments, user cache, aggregates and attempts; leaves Parquet parts, then `extract.json`."""

    needs = (FACTS_FILE, HIERARCHY_FILE)

    def make(self, work: Work) -> dict[str, Any]:
        import pyarrow.parquet as pq

        from progress_exhaust.hooks.report_store import remove_folder
        from progress_exhaust.report.learners import USER_FIELDS, Rules, Sources, cache_was_flushed, make_part, pages

        settings, batch, hierarchy, facts = work.site.settings, work.batch, work.hierarchy(), work.facts()
        as_of = datetime.now(UTC)
        (work.folder / EXTRACT_FILE).unlink(missing_ok=True)
        remove_folder(work.folder / "parts")
        (work.folder / "parts").mkdir(parents=True, exist_ok=True)
        counts: Counter[str] = Counter()
        parts = 0
        with work.site.learner_tables() as tables, work.site.user_cache() as cache:
            tables.check_courses()
            sources = Sources(
                users=lambda ids: cache.users(ids, USER_FIELDS),
                nested=lambda ids: tables.nested_progress(ids, hierarchy.nested_ids, batch.batch_id),
                attempts=lambda ids: tables.attempts(ids, batch.collection_id, batch.batch_id),
            )
            rules = Rules(owned=facts.owned, channel=batch.channel, optional=hierarchy.optional)
            told_at = monotonic()
            for page in pages(self._enrolments(work, tables), settings.learners_per_part):
                part, page_counts = make_part(page, rules, sources)
                counts.update(page_counts)
                with work.part(parts).open("wb") as target:
                    pq.write_table(part, target)
                parts += 1
                if monotonic() - told_at > SECONDS_BETWEEN_NEWS:
                    self.log.info("%s: %s learners read so far", batch, f"{counts['enrolled']:,}")
                    told_at = monotonic()
        if cache_was_flushed(counts, settings.missing_users_percent):
            raise SourceError(
                f"{batch}: {counts['missing']:,} of {counts['enrolled']:,} learners are missing from the user cache, more "
                f"than missing_users_percent ({settings.missing_users_percent:g}) allows: is the cache being filled?"
            )
        work.leave(EXTRACT_FILE, {"as_of": as_of.isoformat(), "parts": parts, "counts": counts})
        return dict(counts)

    def _enrolments(self, work: Work, tables: "LearnerTablesHook") -> "Iterator[Enrolment]":
        """Return the batch's enrolments in user id order, whichever way the site's table is keyed."""
        from progress_exhaust.report.enrolment_runs import merged

        batch_key = (work.batch.collection_id, work.batch.batch_id)
        if tables.enrolments_keyed_by_batch():
            return tables.enrolments_of_batch(*batch_key)
        folder = work.site.store().scan_folder(work.site.run_id, *batch_key)
        with work.requests.alone("scan of the enrolments"):
            if not (folder / SCAN_FILE).exists():
                self._scan(work, tables)
        return merged(folder)

    def _scan(self, work: Work, tables: "LearnerTablesHook") -> None:
        """Read the enrolments of every batch of the run at once, for their own extracts to find."""
        from progress_exhaust.hooks.report_store import remove_folder, write_marker
        from progress_exhaust.report.enrolment_runs import write_runs

        store, run_id = work.site.store(), work.site.run_id
        unread = [(run.collection_id, run.batch_id) for run in work.requests.run_batches() if run.state != "done"]
        folders = {key: store.scan_folder(run_id, *key) for key in {(work.batch.collection_id, work.batch.batch_id), *unread}}
        folders = {key: folder for key, folder in folders.items() if not (folder / SCAN_FILE).exists()}
        for folder in folders.values():
            remove_folder(folder)
            folder.mkdir(parents=True, exist_ok=True)
        self.log.info("The enrolments are keyed by user: one scan for %d batches", len(folders))
        write_runs(
            tables.scan_enrolments(sorted({batch_id for _, batch_id in folders})),
            folders,
            rows_in_memory=work.site.settings.learners_per_part,
        )
        for folder in folders.values():
            write_marker(folder / SCAN_FILE, "{}")
