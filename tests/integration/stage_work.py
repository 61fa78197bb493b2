"""What a stage of one batch works with, to call it here and now; a run has entered the batch in the ledger."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from progress_exhaust.operators.site_operator import RunParams, Site
from progress_exhaust.operators.stage import FACTS_FILE, Work

from progress_exhaust.operators.fetch_hierarchy import FetchHierarchyOperator
from progress_exhaust.report.request import BatchFacts
from progress_exhaust.settings import parse_settings
from tests.integration.install import REPORT_DAY, Install


def stage_work(install: Install, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Work:
    """Run the DAG over the install's pending requests; return the extract of the first one's batch, to be done anew."""
    run = install.run_dag()
    assert run.state == "success", run.failed()
    environment = install.environment(settings | {"staging_url": folder.as_uri()})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    site = Site(parse_settings(environment["AIRFLOW_VAR_PROGRESS_EXHAUST"]), run.run_id)
    requests = site.requests()
    batch, *_ = [one.batch for one in requests.run_batches()]
    own: ObjectStoragePath = site.store().batch_folder(run.run_id, batch)
    return begun(Work(site, RunParams(), batch, REPORT_DAY, own, requests, logging.getLogger(__name__), "extract"))


def begun(extract: Work) -> Work:
    """Do what comes before the extract."""
    extract.leave(FACTS_FILE, asdict(BatchFacts("Batch", "Collection", owned=True)))
    FetchHierarchyOperator(task_id="fetch_hierarchy", batch={}).make(extract)
    return extract
