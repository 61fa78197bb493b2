"""First stage: the collection's tree, reduced to the report's columns."""

from typing import Any

from progress_exhaust.errors import RequestError
from progress_exhaust.operators.stage import FACTS_FILE, HIERARCHY_FILE, StageOperator, Work


class FetchHierarchyOperator(StageOperator):
    """Reads the tree from Cassandra, else from the content service, and leaves `hierarchy.json`."""

    needs = (FACTS_FILE,)

    def make(self, work: Work) -> dict[str, Any]:
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
        hierarchy = reduce_tree(tree, collection_id, kinds, optional)
        work.leave(HIERARCHY_FILE, hierarchy.to_dict())
        return {
            "nested_collections": len(hierarchy.nested_ids),
            "assessments": len(hierarchy.assessment_ids),
            "contents": hierarchy.leaf_count,
        }
