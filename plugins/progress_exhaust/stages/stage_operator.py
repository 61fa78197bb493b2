"""The base of the five stages of a batch: the claim, the ledger and the metrics around the work of each."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from progress_exhaust import metrics
from progress_exhaust.airflow_names import AirflowSkipException
from progress_exhaust.errors import (
    ClaimLostError,
    OverLimitError,
    ProgressExhaustError,
    RequestCancelledError,
    RequestDeletedError,
    RequestError,
)
from progress_exhaust.hooks.requests.models import DEFERRED_BYTES, BatchState, Stage
from progress_exhaust.links import RequestLink
from progress_exhaust.stages.base_operator import BaseTaskOperator, needs_operator
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.deleted_requests import drop_deleted_request
from progress_exhaust.stages.progress import format_counts
from progress_exhaust.stages.site_setup import RunParams, Site, report_day

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.staging.manifests import Manifest

Counts = dict[str, int]


class StageOperator(BaseTaskOperator):
    """One stage of one batch.

    :param batch: what list_batches returned for the batch (templated)
    """

    template_fields = ("batch",)
    operator_extra_links: tuple[BaseOperatorLink, ...] = (RequestLink(),)
    # The manifests of earlier stages: if one is missing, nothing is claimed, recorded or made.
    needs: "tuple[type[Manifest], ...]" = ()

    def __init__(self, *, batch: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch

    def run(self, context: "Context", site: Site, params: RunParams) -> Counts:
        batch_context = self.batch_context(context, site, params)
        return run_and_record(batch_context, lambda: self.run_stage(batch_context), needs=self.needs)

    def run_stage(self, batch_context: BatchContext) -> Counts:
        """Do the work of the stage; return its counts."""
        raise NotImplementedError

    def batch_context(self, context: "Context", site: Site, params: RunParams) -> BatchContext:
        """Return the context of the batch; nothing is read or claimed yet."""
        from progress_exhaust.report.request import Batch

        batch, stage = Batch.from_dict(self.batch), Stage(self.task_id.rpartition(".")[2])
        return BatchContext(
            site=site,
            params=params,
            batch=batch,
            day=report_day(context, site.settings),
            staging=site.batch_folder(batch, stage, params),
            claims=site.claims(),
            ledger=site.ledger(),
            locks=site.locks(),
            log=self.log,
            stage=stage,
        )


def run_and_record(
    batch_context: BatchContext,
    work: Callable[[], Counts],
    *,
    needs: "Sequence[type[Manifest]]",
    state_after: BatchState = BatchState.RUNNING,
) -> Counts:
    """Do the work of a stage under the request's claim, and record how it ended; return its counts."""
    try:
        return _run_and_record(batch_context, work, needs, state_after)
    except RequestDeletedError as error:
        drop_deleted_request(batch_context, str(error))
        raise AirflowSkipException(str(error)) from None
    except RequestCancelledError as error:  # the run does what is left of it, and stays green
        raise AirflowSkipException(str(error)) from None


def _run_and_record(
    batch_context: BatchContext, work: Callable[[], Counts], needs: "Sequence[type[Manifest]]", state_after: BatchState
) -> Counts:
    batch, stage, store, log = batch_context.batch, batch_context.stage, batch_context.site.store(), batch_context.log
    with store.translate_store_errors():
        for manifest in needs:
            batch_context.staging.read(manifest)
    if not batch_context.params.dry_run:
        batch_context.claims.ensure_claim(batch)
    batch_context.ledger.record(batch, stage=stage, state=BatchState.RUNNING)
    started = monotonic()
    try:
        with store.translate_store_errors():
            counts = work()
    except RequestError as error:
        log.warning("%s: %s: permanent error: %s", batch, stage, error)
        record_end(batch_context, BatchState.REJECTED, error=str(error), permanent=True)
        raise AirflowSkipException(str(error)) from None
    except OverLimitError as error:
        log.info("%s: %s: deferred to a later run: %s", batch, stage, error)
        record_end(batch_context, BatchState.DEFERRED, counts={DEFERRED_BYTES: error.deferred_bytes}, error=str(error))
        raise AirflowSkipException(str(error)) from None
    except (ClaimLostError, RequestDeletedError):
        raise
    except Exception as error:
        # Only our own messages are sure to contain no learner data.
        text = str(error) if isinstance(error, ProgressExhaustError) else type(error).__name__
        record_end(batch_context, BatchState.FAILED, error=text, permanent=needs_operator(error))
        raise
    seconds = monotonic() - started
    record_end(batch_context, state_after, counts=counts, seconds=seconds)
    log.info("%s: %s: %s seconds=%.1f", batch, stage, format_counts(counts), seconds)
    return counts


def record_end(
    batch_context: BatchContext,
    state: BatchState,
    *,
    counts: Mapping[str, int] | None = None,
    seconds: float | None = None,
    error: str | None = None,
    permanent: bool = False,
) -> None:
    """Record how a stage ended, in the ledger and in the metrics; a dry run has no metrics."""
    batch_context.ledger.record(
        batch_context.batch,
        stage=batch_context.stage,
        state=state,
        counts=counts,
        seconds=seconds,
        error=error,
        permanent=permanent,
    )
    if batch_context.params.dry_run:
        return
    if state != BatchState.RUNNING:
        metrics.batch_ended(state)
    if seconds is not None:
        metrics.stage_took(batch_context.stage, seconds)
