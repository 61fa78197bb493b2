"""The context of an extract, to call the stage directly. A run has listed the batch in the ledger."""

import logging
from pathlib import Path
from typing import Any

import pytest

from progress_exhaust.hooks.requests.models import Stage
from progress_exhaust.operators.extract import ExtractOperator
from progress_exhaust.operators.fetch_hierarchy import FetchHierarchyOperator
from progress_exhaust.report.request import BatchFacts
from progress_exhaust.settings import parse_settings
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.staging.manifests import BatchManifest
from tests.integration.install import REPORT_DAY, Install


def extract_context(install: Install, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> BatchContext:
    """Run the DAG for the pending requests; return the context of the first batch's extract, which is not yet done again."""
    run = install.run_dag()
    assert run.state == "success", run.failed()
    environment = install.environment(settings | {"staging_url": folder.as_uri()})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    site, params = Site(parse_settings(environment["AIRFLOW_VAR_PROGRESS_EXHAUST"]), run.run_id), RunParams()
    batch = site.ledger().run_batches()[0].batch
    context = BatchContext(
        site=site,
        params=params,
        batch=batch,
        day=REPORT_DAY,
        staging=site.batch_folder(batch, Stage.EXTRACT, params),
        claims=site.claims(),
        ledger=site.ledger(),
        locks=site.locks(),
        log=logging.getLogger(__name__),
        stage=Stage.EXTRACT,
    )
    return prepared(context)


def prepared(context: BatchContext) -> BatchContext:
    """Do what comes before the extract."""
    context.staging.write_manifest(BatchManifest(facts=BatchFacts("Batch", "Collection", owned=True)))
    FetchHierarchyOperator(task_id="fetch_hierarchy", batch={}).run_stage(context)
    return context


def extract(context: BatchContext) -> dict[str, int]:
    """Run the stage; return its counts."""
    return ExtractOperator(task_id="extract", batch={}).run_stage(context)
