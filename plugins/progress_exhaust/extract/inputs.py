"""What an extract depends on, in addition to the sources."""

from datetime import datetime

from progress_exhaust.report.eligibility import Eligibility
from progress_exhaust.report.hierarchy import Hierarchy
from progress_exhaust.report.layout import Layout
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.staging.manifests import BatchManifest, ExtractInputs, HierarchyManifest, RestartManifest


def current_inputs(batch_context: BatchContext) -> ExtractInputs:
    """Return what the extracted files depend on now: if it changes, they are extracted again."""
    layout = batch_context.site.layout(batch_context.params)
    hierarchy = batch_context.staging.read(HierarchyManifest).hierarchy
    settings = batch_context.site.settings
    return make_inputs(hierarchy, layout, settings.scores_from, settings.user_source)


def make_inputs(hierarchy: Hierarchy, layout: Layout, scores_from: str = "attempts", user_source: str = "redis") -> ExtractInputs:
    """Return what the extracted files of a layout depend on."""
    return ExtractInputs(
        hierarchy=hierarchy,
        enrolments=layout.enrolments,
        learners=layout.learners,
        user_fields=layout.user_fields,
        nested_progress=layout.nested_progress,
        removed_contents=layout.removed_contents,
        archived_scores=layout.archived_scores,
        blank_dates=layout.blank_dates,
        scores_from=scores_from,
        user_source=user_source,
    )


def make_eligibility(batch_context: BatchContext) -> Eligibility:
    """Return the rule that decides which learners are in the report."""
    layout = batch_context.site.layout(batch_context.params)
    facts = batch_context.staging.read(BatchManifest).facts
    return Eligibility(facts.owned, batch_context.batch.channel, cached_only=layout.learners == "cached")


def is_recent(batch_context: BatchContext, as_of: datetime) -> bool:
    """Return whether facts of this instant may be used: they are from today, and from after a restart of the extract."""
    restart = batch_context.staging.find(RestartManifest)
    return batch_context.is_from_today(as_of) and (restart is None or as_of > restart.restarted_at)
