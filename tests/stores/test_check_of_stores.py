"""The check of a store: public or not, the rights of the login, and deletion of several objects in one request."""

import json
from collections.abc import Sequence

import pytest
from airflow.sdk.io import store as airflow_stores

from progress_exhaust.checks.findings import Finding, Level, run_checks
from progress_exhaust.checks.installation import all_checks
from tests.fault_proxy import REPLY, proxy_to
from tests.stores.conftest import CONNECTION, Buckets
from tests.stores.test_errors import REFUSALS, of_many, refusal


def find(buckets: Buckets, monkeypatch: pytest.MonkeyPatch, connection: str | None = None, **settings: object) -> list[Finding]:
    monkeypatch.setenv(CONNECTION, connection or buckets.store.connection())
    airflow_stores._STORE_CACHE.clear()
    checks = all_checks(json.dumps(buckets.settings | settings), sees_pools=False)
    return list(run_checks([check for check in checks if check.name == "store"]))


def levels(found: Sequence[Finding]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in found}


GOOD = dict.fromkeys(("reports container", "public container", "TLS of the store", "staging", "public staging"), Level.OK)


def test_a_good_store_passes_and_keeps_nothing(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(buckets, monkeypatch)
    if buckets.store.scheme == "gs":  # its emulator checks no login, so everything is public
        assert levels(found) == GOOD | {"public container": Level.ERROR, "public staging": Level.ERROR}
    else:
        assert levels(found) == GOOD, found
    assert (buckets.published(), buckets.staged()) == ({}, [])


def test_a_public_container_is_an_error_until_the_setting_allows_it(s3_buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_buckets.make_public()
    found = find(s3_buckets, monkeypatch)
    assert levels(found) == GOOD | {"public container": Level.ERROR}
    [text] = [finding.text for finding in found if finding.level is Level.ERROR]
    assert f"The reports container {s3_buckets.container} is public" in text and "Make it private" in text
    allowed = find(s3_buckets, monkeypatch, allow_public_container=True)
    assert levels(allowed) == GOOD | {"public container": Level.WARNING}
    s3_buckets.make_public("private")
    found = find(s3_buckets, monkeypatch, allow_public_container=True)
    assert levels(found) == GOOD | {"public container": Level.WARNING, "public staging": Level.ERROR}
    assert (s3_buckets.published(), s3_buckets.staged()) == ({}, [])


def test_a_store_that_deletes_one_object_at_a_time_is_a_warning(s3_buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_to(s3_buckets.store.port) as proxy:
        proxy.begin(REPLY, of_many, reply=refusal(*REFUSALS["not implemented"]))
        found = find(s3_buckets, monkeypatch, s3_buckets.store.connection(proxy.port))
        assert proxy.met
    assert levels(found) == GOOD | {"staging": Level.WARNING}
    assert s3_buckets.staged() == []


def test_a_login_that_cannot_delete_is_a_warning_for_the_container_and_an_error_for_staging(
    s3_buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deletes(before: bytes, now: bytes) -> bool:
        return now.startswith(b"DELETE ") or of_many(before, now)

    with proxy_to(s3_buckets.store.port) as proxy:
        proxy.begin(REPLY, deletes, reply=refusal(*REFUSALS["not allowed"]))
        found = find(s3_buckets, monkeypatch, s3_buckets.store.connection(proxy.port))
    assert levels(found)["reports container"] is Level.WARNING
    assert levels(found)["staging"] is Level.ERROR
    assert "Let the login delete there: retention needs it" in found[0].text


def test_a_missing_container_is_an_error(s3_buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(s3_buckets, monkeypatch, reports_container_url="s3://reports-nowhere")
    assert levels(found) == GOOD | {"reports container": Level.ERROR, "public container": Level.ERROR}
    assert all("Make the bucket, container or folder" in finding.text for finding in found if finding.level is Level.ERROR)
    assert s3_buckets.staged() == []
