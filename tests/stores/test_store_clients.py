"""The private APIs of the stores' clients behave as compat expects; the other ones are in tests/unit/test_compat.py."""

from pathlib import Path

import pytest

from dev import stores
from progress_exhaust import compat
from tests.fault_proxy import SPOIL, proxy_to
from tests.stores.conftest import Buckets


@pytest.mark.parametrize("at_once", [False, True])
def test_the_client_of_s3_sends_a_body_without_waiting(s3_buckets: Buckets, tmp_path: Path, at_once: bool) -> None:
    from aiobotocore.session import AioSession
    from s3fs import S3FileSystem

    sent = bytearray()

    def record(_before: bytes, now: bytes) -> bool:
        sent.extend(now)
        return False

    (tmp_path / "file").write_bytes(b"data")
    with proxy_to(s3_buckets.store.port) as proxy:
        proxy.begin(SPOIL, record)
        client = {"endpoint_url": f"http://127.0.0.1:{proxy.port}", "region_name": stores.S3_REGION}
        fs = S3FileSystem(key="test", secret="test", session=AioSession(), client_kwargs=client, skip_instance_cache=True)
        if at_once:
            compat.send_bodies_at_once(fs)
        compat.put_file(fs, tmp_path / "file", f"reports-{s3_buckets.name}/file", timeout_seconds=30)
    assert (b"expect: 100-continue" in sent.lower()) is not at_once


def test_an_object_of_azure_has_a_url(running: object, monkeypatch: pytest.MonkeyPatch) -> None:
    if not stores.AZURITE.exists():
        pytest.skip("Azurite is not installed: npm was missing when `make stores` ran")
    hook = Buckets(running("azure"), "urls").hook()  # type: ignore[operator]
    url = compat.azure_blob_url(hook._container.fs, "reports-urls/folder/file.zip")
    assert url.startswith("http://127.0.0.1:") and url.partition("?")[0].endswith("/reports-urls/folder/file.zip")
