"""Facts chunks for tests: one dict per learner names only what matters. The product's own `make_facts_chunk` makes them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from progress_exhaust.extract.facts_chunks import FactSources, make_facts_chunk
from progress_exhaust.extract.inputs import make_inputs
from progress_exhaust.extract.schemas import ARCHIVED_SCORES, ATTEMPTS, ENROLLED, NESTED_PROGRESS, rows_to_table
from progress_exhaust.report.eligibility import Eligibility
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.layout import BUILT_IN, Layout
from progress_exhaust.staging.manifests import ExtractInputs

USER_FIELDS = tuple(sorted({field for layout in BUILT_IN.values() for field in layout.user_fields}))
ENROLLED_PLAINLY = {"active": True, "enrolled_at": 0, "completed_contents": 0, "has_certificate": False}


def inputs(
    *assessment_ids: str,
    contents: Iterable[str] = (),
    optional: Iterable[str] = (),
    layout: Layout = BUILT_IN["standard"],
    **more: Any,
) -> ExtractInputs:
    """Return what an extract of a collection with these assessments and other contents depends on."""
    nodes = tuple(ColumnNode("assessment", one, "") for one in assessment_ids)
    contents = frozenset({*assessment_ids, *contents})
    hierarchy = Hierarchy("do_1", len(contents), nodes, frozenset(optional), content_ids=contents)
    return make_inputs(hierarchy, layout).model_copy(update=more)


def part_of(*learners: Mapping[str, Any]) -> pa.Table:
    """Return the facts chunk of these learners, called `u0`, `u1`, … where they have no `user_id`.

    A learner's keys are fields of ENROLLED and of the user cache, `nested` (rows of NESTED_PROGRESS without the user)
    and `attempts` (dicts of ATTEMPTS).
    """
    everybody = [{"user_id": f"u{place}", **ENROLLED_PLAINLY, **learner} for place, learner in enumerate(learners)]
    enrolled = pa.Table.from_pylist([{name: one.get(name) for name in ENROLLED.names} for one in everybody], schema=ENROLLED)
    nested = [(one["user_id"], *row) for one in everybody for row in one.get("nested", ())]
    attempts = [
        (one["user_id"], *(attempt.get(name) for name in ATTEMPTS.names[1:]))
        for one in everybody
        for attempt in one.get("attempts", ())
    ]
    sources = FactSources(
        users=lambda _: {
            one["user_id"]: {field: one[field] for field in USER_FIELDS if one.get(field) is not None} for one in everybody
        },
        nested=lambda _: rows_to_table(nested, NESTED_PROGRESS),
        attempts=lambda _: rows_to_table(attempts, ATTEMPTS),
        archived_scores=lambda _: rows_to_table((), ARCHIVED_SCORES),
    )
    chunk, _ = make_facts_chunk(enrolled, Eligibility(owned=True, channel="org"), inputs(user_fields=USER_FIELDS), sources)
    return chunk
