"""From enrolments to enrolled chunks: the enrolments that count, cut into chunks of learners."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa

from progress_exhaust.extract.schemas import ENROLLED
from progress_exhaust.hooks.cassandra.models import Enrolment
from progress_exhaust.hooks.cassandra.raw_values import (
    ContentKeys,
    count_completed,
    count_elements,
)
from progress_exhaust.report.eligibility import enrolment_exclusion, no_exclusions
from progress_exhaust.staging.manifests import ExtractInputs

CELLS_PER_CHUNK = 500_000  # of nested collections and assessments: a chunk of a wide course has fewer learners


def learners_per_chunk(setting: int, inputs: ExtractInputs) -> int:
    """Return how many learners a chunk has: those of the setting, or fewer if the course has many columns."""
    return min(setting, max(1, CELLS_PER_CHUNK // max(1, len(inputs.hierarchy.nodes))))


def cut_into_chunks(enrolments: Iterable[Enrolment], size: int) -> Iterator[list[Enrolment]]:
    """Yield the enrolments in lists of at most `size`."""
    stream = iter(enrolments)
    while chunk := list(islice(stream, size)):
        yield chunk


def make_enrolled_chunk(enrolments: Sequence[Enrolment], inputs: ExtractInputs) -> tuple[pa.Table, Counter[str]]:
    """Return the enrolments that count (ENROLLED), in their order, and counts: enrolled, and excluded by reason.

    If the layout includes inactive enrolments, the count `inactive` says how many of the enrolled they are.
    """
    counts: Counter[str] = Counter(enrolled=0, **no_exclusions(of_enrolment=True))
    with_inactive = inputs.enrolments == "all"
    enrolled: list[Enrolment] = []
    for enrolment in enrolments:
        reason = enrolment_exclusion(
            enrolment.active,
            enrolment.enrolled_at,
            enrolment.enrolled_text,
            keeps_blank_dates=inputs.blank_dates == "kept",
            with_inactive=with_inactive,
        )
        if reason is None:
            enrolled.append(enrolment)
        else:
            counts[reason.count_name] += 1
    counts["enrolled"] = len(enrolled)
    if with_inactive:
        counts["inactive"] = sum(not enrolment.active for enrolment in enrolled)
    hierarchy = inputs.hierarchy
    assessments = [] if inputs.archived_scores == "blank" else hierarchy.assessment_ids
    contents = ContentKeys.of(hierarchy.content_ids, hierarchy.optional, assessments)
    statuses = [enrolment.content_statuses for enrolment in enrolled]
    # Cassandra sorts a map by its keys: all learners who have completed the same contents have the same bytes.
    counted = {one: count_completed(one, contents) for one in set(statuses)}
    completed = [counted[one] for one in statuses]
    counts_removed = inputs.removed_contents == "counted"
    table = pa.table(
        {
            "user_id": [enrolment.user_id for enrolment in enrolled],
            "active": [bool(enrolment.active) for enrolment in enrolled],
            "enrolled_at": [enrolment.enrolled_at for enrolment in enrolled],
            "enrolled_text": [enrolment.enrolled_text for enrolment in enrolled],
            "completed_at": [enrolment.completed_at for enrolment in enrolled],
            "completed_contents": [one.required + one.unknown * counts_removed for one in completed],
            "removed_contents": [one.unknown for one in completed],
            "completed_assessments": [one.assessments for one in completed],
            "has_certificate": [_has_certificate(enrolment) for enrolment in enrolled],
            "certificate_status": [enrolment.certificate_status for enrolment in enrolled],
        },
        schema=ENROLLED,
    )
    return table, counts


def _has_certificate(enrolment: Enrolment) -> bool:
    return bool(count_elements(enrolment.certificates) or count_elements(enrolment.issued_certificates))
