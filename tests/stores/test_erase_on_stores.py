"""`erase` reads packages from a store, and deletes them there."""

import json
from pathlib import Path

import pytest

from progress_exhaust import compat
from progress_exhaust.erase.erasure import Action, Erasure
from progress_exhaust.settings import Settings
from progress_exhaust.stages.site_setup import Site
from tests.integration.install import Install
from tests.integration.test_erase import KEY, LEARNER, OTHER, OTHER_KEY, REFERENCE, publish
from tests.stores.conftest import Buckets


def test_a_learner_is_erased_from_the_packages_of_a_store(
    queue: Install, buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = buckets.hook()
    for key, learner in ((KEY, LEARNER), (OTHER_KEY, OTHER)):
        publish(tmp_path / key, learner)
        store.publish(tmp_path / key, key)
    queue.sql(
        "INSERT INTO job_request (tag, request_id, job_id, status, download_urls, processed_batches) "
        "VALUES ('tag', 'r1', 'progress-exhaust', 'SUCCESS', %s, %s)",
        [[KEY, OTHER_KEY], json.dumps([{"batchId": "b1", "filePath": KEY}, {"batchId": "b2", "filePath": OTHER_KEY}])],
    )
    for name, value in queue.environment(buckets.settings, {"STORE": buckets.store.connection()}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(compat, "write_audit_entry", lambda *_: None)
    site = Site(Settings(**queue.all_settings(**buckets.settings)), "erase")
    for reference, is_done in ((None, False), (REFERENCE, True)):
        [found] = Erasure(site, LEARNER, (), make_again=True, reference=reference).run()
        assert (found.package, found.action, found.requests, found.is_done) == (KEY, Action.MAKE_AGAIN, ("r1",), is_done)
    assert list(buckets.published()) == [OTHER_KEY]
    [row] = queue.rows().values()
    assert (row["status"], row["download_urls"]) == ("SUBMITTED", [OTHER_KEY])
    assert list(Erasure(site, LEARNER, (), make_again=True, reference=REFERENCE).run()) == []
