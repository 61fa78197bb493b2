"""The context of a stage that asks no server: the files of the stages before are in a local folder."""

import logging
from contextlib import nullcontext
from datetime import date
from typing import Any

from airflow.sdk import ObjectStoragePath

from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.report.options import OutputFormat
from progress_exhaust.report.request import Batch
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.staging.batch_folder import BatchFolder

DAY = date(2022, 9, 28)


def offline_context(
    site: Site,
    batch: Batch,
    folder: ObjectStoragePath,
    stage: Stage,
    *,
    layout: str | None = None,
    output_format: str | None = None,
) -> BatchContext:
    """Return the context of a dry run, without claims, ledger and locks."""
    nothing: Any = None
    return BatchContext(
        site=site,
        params=RunParams(layout=layout, dry_run=True, output_format=OutputFormat(output_format) if output_format else None),
        batch=batch,
        day=DAY,
        staging=BatchFolder(folder, str(batch), nullcontext),
        claims=nothing,
        ledger=nothing,
        locks=nothing,
        log=logging.getLogger(__name__),
        stage=stage,
    )
