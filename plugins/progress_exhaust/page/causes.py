"""Why batches of a request were not made: each cause once, with its batches."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from progress_exhaust.hooks.requests.models import BatchState
from progress_exhaust.page.batch_view import BatchView

RANDOM_NAME = re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{16,}\b")  # of a temporary file
NOT_MADE = (BatchState.FAILED, BatchState.REJECTED, BatchState.DEFERRED)


@dataclass(frozen=True)
class Cause:
    """An error, and the batches that it stopped in the same state."""

    error: str  # with … in place of what differs, if it stopped several
    state: str
    label: str
    batch_ids: tuple[str, ...]


def group_causes(batches: Iterable[BatchView]) -> list[Cause]:
    """Return the errors of batches that were not made, the most frequent one first.

    Errors are equal if they differ in the id of their batch, or in the random name of a file.
    """
    groups: dict[tuple[str, str], list[BatchView]] = {}
    for view in batches:
        if view.batch.error and view.batch.state in NOT_MADE:
            error = RANDOM_NAME.sub("…", view.batch.error.replace(view.batch.batch_id, "…"))
            groups.setdefault((view.state, error), []).append(view)
    causes = [
        Cause(
            str(views[0].batch.error) if len(views) == 1 else error,
            state,
            views[0].label,
            tuple(view.batch.batch_id for view in views),
        )
        for (state, error), views in groups.items()
    ]
    return sorted(causes, key=lambda cause: -len(cause.batch_ids))
