"""First stage: the collection's tree, reduced to the report's columns."""

import json
from datetime import UTC, datetime
from typing import Any

from progress_exhaust.errors import RequestError
from progress_exhaust.operators.stage import FACTS_FILE, HIERARCHY_FILE, StageOperator, Work


class FetchHierarchyOperator(StageOperator):
    """Reads the tree from Cassandra, else from the content service, and leaves `hierarchy.json`.

    Batches of one collection share what the first of them in the run has read.
    """

    needs = (FACTS_FILE,)

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.report.hierarchy import Hierarchy

        with work.requests.alone(f"hierarchy of {work.batch.collection_id}"):
            reduced = self._shared(work) or self._fetch(work)
        work.leave(HIERARCHY_FILE, reduced)
        hierarchy = Hierarchy.from_dict(reduced)
        return {
            "nested_collections": len(hierarchy.nested_ids),
            "assessments": len(hierarchy.assessment_ids),
            "contents": hierarchy.leaf_count,
        }

    def _shared(self, work: Work) -> dict[str, Any] | None:
        """Return what another batch of the run has read today; None for one that is done anew."""
        path = work.site.store().shared_hierarchy(work.site.run_id, work.batch.collection_id)
        if (work.folder / HIERARCHY_FILE).exists() or not path.exists():
            return None
        shared: dict[str, Any] = json.loads(path.read_text())
        return shared["hierarchy"] if work.is_of_today(shared["as_of"]) else None

    def _fetch(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.hooks.report_store import write_whole
        from progress_exhaust.report.hierarchy import AssessmentKinds, parse_tree, reduce_tree

        settings, collection_id = work.site.settings, work.batch.collection_id
        with work.site.learner_tables() as tables:
            text = tables.hierarchy(collection_id)
        if text is not None:
            tree = parse_tree(text, collection_id)
        else:
            with work.site.content_api() as content:
                tree = content.hierarchy(collection_id) or {}
        if not tree:
            raise RequestError(f"Collection {collection_id} has no content tree; publish it, then ask again")
        with work.site.user_cache() as cache:
            optional = cache.optional_nodes(collection_id)
        kinds = AssessmentKinds(
            settings.assessment_content_types, settings.assessment_object_types, settings.assessment_categories
        )
        reduced = reduce_tree(tree, collection_id, kinds, optional).to_dict()
        path = work.site.store().shared_hierarchy(work.site.run_id, collection_id)
        write_whole(path, json.dumps({"as_of": datetime.now(UTC).isoformat(), "hierarchy": reduced}).encode())
        return reduced
