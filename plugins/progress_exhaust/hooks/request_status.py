"""The former names of `hooks.requests.status`, for callers that still use them."""

from progress_exhaust.hooks.requests.status import BatchDetails, Filter, Night, RequestDetails, RequestStatusReader, Tally

BatchStatus, RequestStatus, RequestStatusHook = BatchDetails, RequestDetails, RequestStatusReader

__all__ = ["BatchStatus", "Filter", "Night", "RequestStatus", "RequestStatusHook", "Tally"]
