"""Second stage: the facts of the batch's learners, page by page."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from progress_exhaust.errors import SourceError
from progress_exhaust.operators import lineage
from progress_exhaust.operators.part_maker import part_maker, part_of_page
from progress_exhaust.operators.processes import in_processes
from progress_exhaust.operators.shared_scan import Decide, Decided, rows_of, shared_scan
from progress_exhaust.operators.stage import (
    EXTRACT_FILE,
    FACTS_FILE,
    HIERARCHY_FILE,
    LEARNERS,
    Progress,
    StageOperator,
    Work,
    scratch_folder,
)

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from progress_exhaust.extract.scan_buckets import ScanBuckets
    from progress_exhaust.hooks.cassandra.models import BatchKey, Enrolment, Table
    from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook
    from progress_exhaust.report.request import Batch

# How far a scan takes the stage: one of the enrolments, and of the other tables by how many learners' parts are made meanwhile.
OF_ENROLMENTS = 0.5
LEARNERS_PER_RANGE = 7_500

PAGES_FILE = "pages.json"
AGAIN_FILE = "again.json"  # since when: the stage was done before, and is wanted anew

Pages = Mapping[str, Any]  # as_of, hierarchy, users: whom and which of their fields, first_ids: of each page; counts


class ExtractOperator(StageOperator):
    """Reads enrolments, user cache, aggregates and attempts; leaves Parquet parts, then `extract.json`.

    The enrolments are read first, as pages of learners; then each page becomes a part, in several processes. A retry goes on
    after the parts that are there, if the pages are of the same day.
    """

    needs = (FACTS_FILE, HIERARCHY_FILE)
    sources: lineage.Names = ()
    reached = 0.0  # by this try's scans, 0 to 1: what is left is to make the parts

    def make(self, work: Work) -> dict[str, Any]:
        """Extract the batch; where other requests of the run ask for the same batch for the same org, once for all of them."""
        if lineage.wanted():
            self.sources = lineage.sources(work.site)
        batch, alike = work.batch, [run.batch for run in work.alike()]
        if not alike:
            return self._extract(work)
        with work.requests.alone(f"extract of {batch.collection_id} {batch.batch_id} {batch.channel}"):
            return self._copied(work, alike) or self._extract(work)

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> Any:
        return lineage.facets(self.sources, ())

    def _copied(self, work: Work, alike: "Sequence[Batch]") -> dict[str, Any] | None:
        """Take over what another request's extract made today; None where there is none, or this one's is done anew."""
        if (work.folder / EXTRACT_FILE).exists():
            return None
        wanted = self._wanted(work)
        for batch in alike:
            other = replace(work, batch=batch, folder=work.site.store().batch_folder(work.site.run_id, batch))
            made = other.find(EXTRACT_FILE)
            if made and work.is_of_today(made["as_of"]) and made["as_of"] > self._after(work) and made | wanted == made:
                work.log.info("%s: what was extracted for request %s serves this one too", work.batch, batch.request_id)
                work.forget(PAGES_FILE)
                for number in range(made["parts"]):
                    work.write(work.part(number), other.part(number).read_bytes())
                work.leave(EXTRACT_FILE, made)
                return dict(made["counts"])
        return None

    def _extract(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.extract.chunk_files import read_counts
        from progress_exhaust.report.eligibility import is_cache_flushed

        with ExitStack() as stack:
            tables = stack.enter_context(work.site.learner_tables())
            pages = self._pages(work, tables)
            numbers = range(len(pages["first_ids"]))
            missing = [number for number in numbers if not work.part(number).exists()]
            work.tell({"enrolled": pages["counts"]["enrolled"], "percent": int(100 * self.reached)})
            made = self._parts(work, tables, pages, missing, stack) if missing else iter(())
            progress = Progress(work, LEARNERS, pages["counts"]["enrolled"], share=(self.reached, 1))
            counts = Counter(pages["counts"])
            for number in numbers:
                if number in missing:
                    work.write(work.part(number), next(made))
                of_part = read_counts(work.part(number))
                counts.update(of_part)
                (progress.add if number in missing else progress.skip)(of_part.total() - of_part["missing"])
        most_missing = work.site.settings.missing_users_percent
        if is_cache_flushed(enrolled=counts["enrolled"], missing=counts["missing"], max_missing_percent=most_missing):
            work.remove("parts")
            raise SourceError(
                f"{work.batch}: {counts['missing']:,} of {counts['enrolled']:,} learners are missing from the user cache, more "
                f"than missing_users_percent ({most_missing:g}) allows: is the cache being filled?"
            )
        extracted = {"as_of": pages["as_of"], "parts": len(numbers), "counts": counts}
        work.leave(EXTRACT_FILE, extracted | self._wanted(work))
        return dict(counts)

    def _wanted(self, work: Work) -> dict[str, Any]:
        """Return what pages and parts depend on, beside the sources."""
        layout = work.site.layout(work.params)
        return {"hierarchy": work.read(HIERARCHY_FILE), "users": [layout.learners, *layout.user_fields]}

    def _pages(self, work: Work, tables: "LearnerTablesHook") -> Pages:
        """Return the batch's pages of learners in user id order: those of an attempt that broke off today, else new ones."""
        from progress_exhaust.extract.chunk_files import to_parquet
        from progress_exhaust.extract.enrolled_chunks import cut_into_chunks, make_enrolled_chunk

        begun, wanted, now = work.find(PAGES_FILE), self._wanted(work), datetime.now(UTC).isoformat()
        if (work.folder / EXTRACT_FILE).exists():
            work.leave(AGAIN_FILE, {"after": now})
            work.forget(PAGES_FILE)
            work.forget(EXTRACT_FILE)
        elif begun and work.is_of_today(begun["as_of"]) and begun | wanted == begun:
            parts = sum(work.part(number).exists() for number in range(len(begun["first_ids"])))
            work.log.info("%s: goes on after %d of %d finished parts", work.batch, parts, len(begun["first_ids"]))
            return begun
        for name in ("pages", "parts"):
            work.remove(name)
        as_of, enrolments = self._enrolments(work, tables)
        optional, counts = work.hierarchy().optional, Counter(enrolled=0)
        first_ids: list[str] = []
        progress = Progress(work, "enrolments read")
        for page in cut_into_chunks(enrolments, work.site.settings.learners_per_part):
            table, page_counts = make_enrolled_chunk(page, optional)
            work.write(work.page(len(first_ids)), to_parquet(table, page_counts))
            first_ids.append(page[0].user_id)
            counts.update(page_counts)
            progress.add(len(page))
        found = {"as_of": as_of, **wanted, "first_ids": first_ids, "counts": counts}
        work.leave(PAGES_FILE, found)
        return found

    def _after(self, work: Work) -> str:
        """Return the instant since when a scan must be; blank for any of today."""
        again = work.find(AGAIN_FILE)
        return again["after"] if again else ""

    def _enrolments(self, work: Work, tables: "LearnerTablesHook") -> "tuple[str, Iterator[Enrolment]]":
        """Return of when the batch's enrolments are, and they in user id order, whichever way the site's table is keyed."""
        from progress_exhaust.extract.sorted_runs import merge_enrolments
        from progress_exhaust.hooks.cassandra.models import Table

        if tables.enrolments_keyed_by_batch():
            return datetime.now(UTC).isoformat(), tables.enrolments_of_batch(*work.batch.key)
        reason = "The enrolments are keyed by user: one scan"
        decided, folder = self._scan(work, tables, Table.ENROLMENTS, lambda _: (True, reason), OF_ENROLMENTS)
        return decided.as_of, merge_enrolments(folder)

    def _scan(
        self, work: Work, tables: "LearnerTablesHook", table: "Table", decide: Decide, of_the_rest: float
    ) -> "tuple[Decided, ObjectStoragePath]":
        """Scan a table, if that is decided; it takes the stage so much of the rest further, 0 to 1."""
        share = (self.reached, self.reached + (1 - self.reached) * of_the_rest)
        decided, folder = shared_scan(work, tables, table, decide, after=self._after(work), share=share)
        if decided.scan:
            self.reached = share[1]
        return decided, folder

    def _parts(
        self, work: Work, tables: "LearnerTablesHook", pages: Pages, missing: Sequence[int], stack: ExitStack
    ) -> Iterator[bytes]:
        """Return the missing parts, as Parquet."""
        from progress_exhaust.hooks.user_cache import UserCacheHook
        from progress_exhaust.report.eligibility import Eligibility

        settings, layout = work.site.settings, work.site.layout(work.params)
        eligibility = Eligibility(work.facts().owned, work.batch.channel, cached_only=layout.learners == "cached")
        tables.check_courses()
        nested_ids = work.hierarchy().nested_ids
        buckets = self._scans(work, tables, pages, len(nested_ids), stack)
        processes = max(1, min(work.site.processes, len(missing)))
        if processes > 1:
            tables.close()
        opened = partial(
            part_maker,
            work.site,
            work.batch,
            eligibility,
            layout.user_fields,
            nested_ids,
            buckets,
            tables if processes == 1 else None,
        )
        parts = in_processes(
            part_of_page,
            ((number, work.page(number).read_bytes()) for number in missing),
            opened=opened,
            processes=processes,
            connection_ids=(*settings.cassandra_connections, UserCacheHook.connection_id),
        )
        return stack.enter_context(closing(parts))

    def _scans(
        self, work: Work, tables: "LearnerTablesHook", pages: Pages, nested: int, stack: ExitStack
    ) -> "Mapping[str, ScanBuckets]":
        """Return the rows, by page, of the tables that are scanned rather than read by partitions."""
        from progress_exhaust.extract.read_strategy import should_scan
        from progress_exhaust.extract.scan_buckets import ScanBuckets
        from progress_exhaust.extract.schemas import SCHEMA_OF
        from progress_exhaust.extract.sorted_runs import read_runs
        from progress_exhaust.hooks.cassandra.models import Table

        enrolled = pages["counts"]["enrolled"]

        def decide(table: "Table", of_learner: int, keys: "Sequence[BatchKey]") -> tuple[bool, str]:
            others = self._count(work, tables, [key for key in keys if key != work.batch.key])
            wanted, setting = of_learner * (enrolled + others), work.site.settings.read_strategy
            return should_scan(table, wanted=wanted, partitions=tables.estimate_partitions(table), setting=setting)

        found = {}
        rows_of_learner = {table: rows for table, rows in ((Table.AGGREGATES, nested), (Table.ATTEMPTS, 1)) if enrolled and rows}
        weights = {table: len(tables.token_ranges(table)) * LEARNERS_PER_RANGE for table in rows_of_learner}
        rest = sum(weights.values()) + enrolled
        for table, of_learner in rows_of_learner.items():
            decided, folder = self._scan(work, tables, table, partial(decide, table, of_learner), weights[table] / rest)
            rest -= weights[table]
            if decided.scan:
                with scratch_folder(stack) as scratch:
                    found[table] = ScanBuckets(scratch, pages["first_ids"], SCHEMA_OF[table])
                    found[table].fill(read_runs(folder))
        return found

    def _count(self, work: Work, tables: "LearnerTablesHook", keys: "Sequence[BatchKey]") -> int:
        """Return how many learners other batches of the run have, about; 0 where it takes too long to find out."""
        from progress_exhaust.hooks.cassandra.models import Table

        if not tables.enrolments_keyed_by_batch():
            return sum(rows_of(work, Table.ENROLMENTS, key) for key in keys)
        try:
            return tables.count_enrolments(keys)
        except SourceError as error:
            work.log.warning("The learners of the run's other batches are not counted: %s", error)
            return 0
