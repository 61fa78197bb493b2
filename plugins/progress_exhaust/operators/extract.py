"""Second stage: the facts of the batch's learners, page by page."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from progress_exhaust.errors import SourceError
from progress_exhaust.operators.stage import EXTRACT_FILE, FACTS_FILE, HIERARCHY_FILE, StageOperator, Work

if TYPE_CHECKING:
    import pyarrow as pa

    from progress_exhaust.hooks.learner_tables import LearnerTablesHook
    from progress_exhaust.report.learners import Enrolment, Sources

PAGES_FILE = "pages.json"
SCAN_FILE = "scan.json"
SECONDS_BETWEEN_NEWS = 5

Pages = Mapping[str, Any]  # as_of, hierarchy, first_ids: of each page; counts


class ExtractOperator(StageOperator):
    """Reads enrolments, user cache, aggregates and attempts; leaves Parquet parts, then `extract.json`.

    The enrolments are read first, as pages of learners; then each page becomes a part. A retry goes on after the last part
    that is there, if the pages are of the same day.
    """

    needs = (FACTS_FILE, HIERARCHY_FILE)

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.hooks.report_store import remove_folder, write_whole
        from progress_exhaust.report.learners import Rules, cache_was_flushed, counts_of, make_part, read_table, to_parquet

        rules = Rules(owned=work.facts().owned, channel=work.batch.channel)
        with ExitStack() as stack:
            tables = stack.enter_context(work.site.learner_tables())
            pages = self._pages(work, tables)
            sources = self._sources(work, tables, pages, stack)
            counts = Counter(pages["counts"])
            progress = Progress(self.log.info, work, counts["enrolled"])
            for number in range(len(pages["first_ids"])):
                if not work.part(number).exists():
                    page = read_table(work.page(number))
                    part, part_counts = make_part(page, rules, sources(number))
                    write_whole(work.part(number), to_parquet(part, part_counts))
                part_counts = counts_of(work.part(number))
                counts.update(part_counts)
                progress.add(part_counts)
        if cache_was_flushed(counts, work.site.settings.missing_users_percent):
            remove_folder(work.folder / "parts")
            raise SourceError(
                f"{work.batch}: {counts['missing']:,} of {counts['enrolled']:,} learners are missing from the user cache, more "
                f"than missing_users_percent ({work.site.settings.missing_users_percent:g}) allows: is the cache being filled?"
            )
        work.leave(EXTRACT_FILE, {"as_of": pages["as_of"], "parts": len(pages["first_ids"]), "counts": counts})
        return dict(counts)

    def _pages(self, work: Work, tables: "LearnerTablesHook") -> Pages:
        """Return the batch's pages of learners in user id order: those of an attempt that broke off today, else new ones."""
        from progress_exhaust.hooks.report_store import remove_folder, write_whole
        from progress_exhaust.report.learners import enrolled_page, pages, to_parquet

        now, hierarchy = datetime.now(UTC), work.hierarchy()
        begun = None if (work.folder / EXTRACT_FILE).exists() else work.find(PAGES_FILE)
        if begun and self._same_day(work, begun["as_of"], now) and begun["hierarchy"] == work.read(HIERARCHY_FILE):
            parts = sum(work.part(number).exists() for number in range(len(begun["first_ids"])))
            self.log.info("%s: goes on after %d of %d finished parts", work.batch, parts, len(begun["first_ids"]))
            return begun
        work.forget(EXTRACT_FILE)
        for name in ("pages", "parts"):
            remove_folder(work.folder / name)
        counts: Counter[str] = Counter(enrolled=0)
        first_ids: list[str] = []
        for page in pages(self._enrolments(work, tables), work.site.settings.learners_per_part):
            table, page_counts = enrolled_page(page, hierarchy.optional)
            write_whole(work.page(len(first_ids)), to_parquet(table, page_counts))
            first_ids.append(page[0].user_id)
            counts.update(page_counts)
        found = {"as_of": now.isoformat(), "hierarchy": work.read(HIERARCHY_FILE), "first_ids": first_ids, "counts": counts}
        work.leave(PAGES_FILE, found)
        return found

    def _same_day(self, work: Work, as_of: str, now: datetime) -> bool:
        zone = ZoneInfo(work.site.settings.report_timezone)
        return datetime.fromisoformat(as_of).astimezone(zone).date() == now.astimezone(zone).date()

    def _sources(self, work: Work, tables: "LearnerTablesHook", pages: Pages, stack: ExitStack) -> "Callable[[int], Sources]":
        """Return how each page's facts are read."""
        from progress_exhaust.hooks.learner_tables import AGGREGATES, ATTEMPTS
        from progress_exhaust.report import learners
        from progress_exhaust.report.read_strategy import scan_wins
        from progress_exhaust.report.scan_buckets import ScanBuckets

        batch, nested_ids, enrolled = work.batch, work.hierarchy().nested_ids, pages["counts"]["enrolled"]
        cache = stack.enter_context(work.site.user_cache())
        tables.check_courses()

        def scanned(table: str, wanted: int, schema: "pa.Schema", scan: Callable[[], Any]) -> "ScanBuckets | None":
            setting = work.site.settings.read_strategy
            wins, reason = scan_wins(table, wanted=wanted, partitions=tables.partitions(table), setting=setting)
            self.log.info("%s: %s", batch, reason)
            if not wins:
                return None
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="progress-exhaust-"))
            buckets = ScanBuckets(Path(folder), pages["first_ids"], schema)
            buckets.fill(scan())
            return buckets

        nested = attempts = None
        if nested_ids and enrolled:
            wanted = enrolled * len(nested_ids)
            nested = scanned(
                AGGREGATES,
                wanted,
                learners.NESTED_PROGRESS,
                lambda: tables.scan_nested_progress(nested_ids, batch.batch_id),
            )
        if enrolled:
            attempts = scanned(
                ATTEMPTS, enrolled, learners.ATTEMPTS, lambda: tables.scan_attempts(batch.collection_id, batch.batch_id)
            )

        def nested_of(ids: list[str]) -> "pa.Table":
            return learners.table_of(tables.nested_progress(ids, nested_ids, batch.batch_id), learners.NESTED_PROGRESS)

        def attempts_of(ids: list[str]) -> "pa.Table":
            return learners.table_of(tables.attempts(ids, batch.collection_id, batch.batch_id), learners.ATTEMPTS)

        return lambda number: learners.Sources(
            users=lambda ids: cache.users(ids, learners.USER_FIELDS),
            nested=nested_of if nested is None else lambda _ids: nested.page(number),
            attempts=attempts_of if attempts is None else lambda _ids: attempts.page(number),
        )

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
        from progress_exhaust.hooks.report_store import make_folder, remove_folder, write_whole
        from progress_exhaust.report.enrolment_runs import write_runs

        store, run_id = work.site.store(), work.site.run_id
        unread = [(run.collection_id, run.batch_id) for run in work.requests.run_batches() if run.state != "done"]
        folders = {key: store.scan_folder(run_id, *key) for key in {(work.batch.collection_id, work.batch.batch_id), *unread}}
        folders = {key: folder for key, folder in folders.items() if not (folder / SCAN_FILE).exists()}
        for folder in folders.values():
            remove_folder(folder)
            make_folder(folder)
        self.log.info("The enrolments are keyed by user: one scan for %d batches", len(folders))
        write_runs(
            tables.scan_enrolments(sorted({batch_id for _, batch_id in folders})),
            folders,
            rows_in_memory=work.site.settings.learners_per_part,
        )
        for folder in folders.values():
            write_whole(folder / SCAN_FILE, b"{}")


class Progress:
    """Tells a person how far the learners of a batch are, every few seconds, in the log and in the ledger."""

    def __init__(self, say: "Callable[..., None]", work: Work, enrolled: int) -> None:
        self._say = say
        self._work = work
        self._enrolled = enrolled
        self._done = 0
        self._begun = self._told = monotonic()

    def add(self, counts: Mapping[str, int]) -> None:
        self._done += sum(number for name, number in counts.items() if name == "reported" or name.startswith("left_out"))
        now = monotonic()
        if now - self._told < SECONDS_BETWEEN_NEWS:
            return
        self._told = now
        rate = self._done / (now - self._begun)
        left = (self._enrolled - self._done) / rate if rate else 0
        self._say(
            "%s: %s of %s learners, %s a second, %.0f s left",
            *(self._work.batch, f"{self._done:,}", f"{self._enrolled:,}", f"{rate:,.0f}", left),
        )
        self._work.requests.record(
            self._work.batch, stage="extract", state="running", counts={"enrolled": self._enrolled, "learners_done": self._done}
        )
