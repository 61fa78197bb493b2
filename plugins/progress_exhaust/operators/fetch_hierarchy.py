"""First stage of a batch: the collection's hierarchy, reduced to what the report needs."""

from datetime import UTC, datetime

from pydantic import ValidationError

from progress_exhaust.errors import RequestError
from progress_exhaust.report.hierarchy import Hierarchy
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.stage_operator import Counts, StageOperator
from progress_exhaust.staging.manifests import BatchManifest, HierarchyManifest, SharedHierarchy


class FetchHierarchyOperator(StageOperator):
    """Read the hierarchy from Cassandra, else from the content service, and write `hierarchy.json`.

    Batches of one collection share what the first of them in the run has read.
    """

    needs = (BatchManifest,)

    def run_stage(self, batch_context: BatchContext) -> Counts:
        with batch_context.locks.exclusive_lock(f"hierarchy of {batch_context.batch.collection_id}"):
            hierarchy = self._shared(batch_context) or self._fetch(batch_context)
        batch_context.staging.write_manifest(HierarchyManifest(hierarchy=hierarchy))
        return {
            "nested_collections": len(hierarchy.nested_ids),
            "assessments": len(hierarchy.assessment_ids),
            "contents": hierarchy.leaf_count,
        }

    def _shared(self, batch_context: BatchContext) -> Hierarchy | None:
        """Return what another batch of the run has read today; None if there is nothing, or if this stage is run again."""
        site = batch_context.site
        path = site.store().shared_hierarchy(site.run_id, batch_context.batch.collection_id)
        if batch_context.staging.find(HierarchyManifest) or not path.exists():
            return None
        try:
            shared = SharedHierarchy.model_validate_json(path.read_bytes())
        except ValidationError:  # of another version
            return None
        return shared.hierarchy if batch_context.is_from_today(shared.as_of) else None

    def _fetch(self, batch_context: BatchContext) -> Hierarchy:
        from progress_exhaust.hooks.report_store import write_atomically
        from progress_exhaust.report.hierarchy import AssessmentKinds, parse_tree, reduce_tree

        site, collection_id = batch_context.site, batch_context.batch.collection_id
        settings = site.settings
        with site.learner_tables() as tables:
            text = tables.hierarchy(collection_id)
        if text is not None:
            tree = parse_tree(text, collection_id)
        else:
            with site.content_api() as content:
                tree = content.hierarchy(collection_id) or {}
        if not tree:
            raise RequestError(f"Collection {collection_id} has no content tree. Publish it, then ask again")
        with site.users() as source:
            optional = source.optional_nodes(collection_id)
        kinds = AssessmentKinds(
            settings.assessment_content_types, settings.assessment_object_types, settings.assessment_categories
        )
        hierarchy = reduce_tree(tree, collection_id, kinds, optional)
        shared = SharedHierarchy(as_of=datetime.now(UTC), hierarchy=hierarchy)
        write_atomically(site.store().shared_hierarchy(site.run_id, collection_id), shared.model_dump_json().encode())
        return hierarchy
