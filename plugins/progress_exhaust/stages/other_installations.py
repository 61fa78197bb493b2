"""Requests that other installations hold: release them if a person wants it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from progress_exhaust.stages.batch_context import Log
from progress_exhaust.stages.site_setup import RunParams, Site

if TYPE_CHECKING:
    from progress_exhaust.hooks.requests.models import Holder


def find_held_elsewhere(site: Site, request_ids: Iterable[str]) -> "list[Holder]":
    """Return the runs of other installations that hold these requests."""
    return [holder for holder in site.releases().holders(request_ids) if not holder.is_ours]


def release_held_elsewhere(site: Site, params: RunParams, log: Log) -> None:
    """Release the claims of other installations on the named requests, so that this run can claim them."""
    releases = site.releases()
    for holder in find_held_elsewhere(site, params.request_ids):
        if params.dry_run:
            log.warning("Request %s: a run would release the claim of %s", holder.request_id, holder)
        elif releases.release(holder):
            log.warning("Request %s: released the claim of %s", holder.request_id, holder)
        else:
            log.warning(
                "Request %s: not released: %s publishes a file at this moment, or has just ended. Start this run again later",
                holder.request_id,
                holder,
            )
