"""Parts for tests, by a dict a learner that names only what matters; made by the product's own `make_part`."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from progress_exhaust.report.layout import BUILT_IN
from progress_exhaust.report.learners import (
    ATTEMPTS,
    ENROLLED,
    NESTED_PROGRESS,
    Rules,
    Sources,
    make_part,
    table_of,
)

USER_FIELDS = tuple(sorted({field for layout in BUILT_IN.values() for field in layout.user_fields}))
ENROLLED_PLAINLY = {"enrolled_at": 0, "completed_contents": 0, "has_certificate": False}


def part_of(*learners: Mapping[str, Any]) -> pa.Table:
    """Return the part of these learners, called `u0`, `u1`, … where they have no `user_id`.

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
    sources = Sources(
        users=lambda _: {
            one["user_id"]: {field: one[field] for field in USER_FIELDS if one.get(field) is not None} for one in everybody
        },
        nested=lambda _: table_of(nested, NESTED_PROGRESS),
        attempts=lambda _: table_of(attempts, ATTEMPTS),
    )
    part, _ = make_part(enrolled, Rules(owned=True, channel="org", user_fields=USER_FIELDS), sources)
    return part
