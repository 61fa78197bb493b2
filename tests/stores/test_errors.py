"""Errors of a store: the message says what to do, nothing is half published, and the next try works after the fix."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from airflow.sdk import ObjectStoragePath

from dev import stores
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.hooks.report_store import delete_folder, publishing, write_atomically
from progress_exhaust.staging.batch_folder import BatchFolder
from progress_exhaust.staging.manifests import HierarchyManifest
from tests.fault_proxy import HOLD, REPLY, SPOIL, STOP, proxy_to
from tests.stores.conftest import Buckets

S3_RIGHTS = (Path(__file__).parents[2] / "docs" / "grants" / "s3.json").read_text()
IMPATIENT = {"retries": {"max_attempts": 1}}  # the client's own
KEY = "progress-exhaust/R1/B1_progress_20220927.zip"
WRONG_REGION = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization '
    "header is malformed; the region 'us-east-1' is wrong; expecting 'ap-south-1'</Message><Region>ap-south-1</Region></Error>"
)

# A connection that is cut is left by the client where it stands.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def in_mid_package(before: bytes, now: bytes) -> bool:
    """Be the moments when a package is on its way, and nothing else has so many bytes."""
    return len(before) + len(now) > 20_000


def package(folder: Path, data: bytes) -> Path:
    path = folder / "finished.zip"
    path.write_bytes(data)
    return path


def test_a_put_that_is_cut_half_way_publishes_nothing_and_the_retry_replaces_it(s3_buckets: Buckets, tmp_path: Path) -> None:
    s3_buckets.hook().publish(package(tmp_path, b"of this morning"), KEY)
    big = package(tmp_path, b"x" * 500_000)
    with proxy_to(s3_buckets.store.port) as proxy:
        hook = s3_buckets.hook(s3_buckets.store.connection(proxy.port, config_kwargs=IMPATIENT))
        proxy.begin(STOP, in_mid_package)
        with pytest.raises(SourceError, match=f"^The reports container {s3_buckets.container}: "):
            hook.publish(big, KEY)
        assert s3_buckets.published() == {KEY: b"of this morning"}
        proxy.end()
        assert s3_buckets.hook(s3_buckets.store.connection(proxy.port)).publish(big, KEY) == 500_000
    assert s3_buckets.published() == {KEY: b"x" * 500_000}


def test_a_worker_that_is_killed_while_it_puts_has_published_nothing(buckets: Buckets, tmp_path: Path) -> None:
    if buckets.store.scheme == "gs":
        pytest.skip("its emulator keeps what it has of a request that ends too early; the real one does not")
    buckets.hook().publish(package(tmp_path, b"of this morning"), KEY)
    big = package(tmp_path, b"x" * 500_000)
    with proxy_to(buckets.store.port) as proxy:
        proxy.begin(HOLD, in_mid_package)
        worker = buckets.elsewhere(f"hook.publish(Path({str(big)!r}), {KEY!r})", buckets.store.connection(proxy.port))
        proxy.wait()
        worker.kill()
        worker.wait()
    assert buckets.published() == {KEY: b"of this morning"}
    assert buckets.hook().publish(big, KEY) == 500_000


def test_a_put_ends_though_the_store_takes_no_more_bytes(
    s3_buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "SLOWEST_BYTES_PER_SECOND", 10_000_000)
    big = package(tmp_path, b"x" * 30_000_000)  # more than waits in the buffers of a connection
    with proxy_to(s3_buckets.store.port) as proxy:
        hook = s3_buckets.hook(s3_buckets.store.connection(proxy.port, config_kwargs=IMPATIENT), timeout_seconds=1)
        proxy.begin(HOLD, in_mid_package)
        at_last = threading.Timer(60, proxy.close)  # the client itself would wait for ever
        at_last.start()
        with pytest.raises(SourceError, match=r"no answer in 4 s to a file of 30,000,000 bytes"):
            hook.publish(big, KEY)
        at_last.cancel()
    assert s3_buckets.published() == {}


def test_bytes_that_were_spoilt_on_the_way_are_not_taken_for_a_package(buckets: Buckets, tmp_path: Path) -> None:
    big = package(tmp_path, b"x" * 100_000)
    with proxy_to(buckets.store.port) as proxy:
        seen = bytearray()

        def spoilt(before: bytes, now: bytes) -> bool:
            seen.extend(now)
            return in_mid_package(before, now)

        proxy.begin(SPOIL, spoilt)
        hook = buckets.hook(buckets.store.connection(proxy.port))
        with pytest.raises(SourceError, match=r"(?i)md5|checksum"):
            hook.publish(big, KEY)
    if buckets.store.scheme == "s3":  # this server rejects nothing, unlike AWS: the test only compares what is sent
        digest = base64.b64encode(hashlib.md5(big.read_bytes(), usedforsecurity=False).digest())
        assert b"Content-MD5: " + digest in seen
    if buckets.store.scheme == "abfs":  # it refuses them; those of the others are found out
        assert buckets.published() == {}
    assert buckets.hook().publish(big, KEY) == 100_000


@pytest.mark.parametrize("arrived", [b"x" * 99, b"y" * 100, b""], ids=["short", "other bytes", "empty"])
def test_what_a_store_has_instead_of_a_package_is_found_out_and_the_retry_replaces_it(
    buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrived: bytes
) -> None:
    whole = package(tmp_path, b"x" * 100)
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_put", lambda _package, target, *_: target.fs.pipe_file(target.path, arrived))
        with pytest.raises(SourceError, match=rf"^The reports container {buckets.container}: .*The checksum of"):
            buckets.hook().publish(whole, KEY)
    assert buckets.published() == {KEY: arrived}
    assert buckets.hook().publish(whole, KEY) == 100
    assert buckets.published() == {KEY: b"x" * 100}


def test_a_package_in_parts_of_which_one_was_spoilt_is_found_out(
    s3_buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a package in parts, S3 gives no MD5."""
    data = b"x" * (11 * 2**20)

    def put(_package: Path, target: ObjectStoragePath, *_: object) -> None:
        target.fs.pipe_file(target.path, b"y" + data[1:], chunksize=5 * 2**20)
        assert target.fs.info(target.path)["ETag"].endswith('-3"')

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_put", put)
        with pytest.raises(SourceError, match=r"The checksum of the stored .* differs"):
            s3_buckets.hook().publish(package(tmp_path, data), KEY)
    assert s3_buckets.hook().publish(package(tmp_path, data), KEY) == len(data)


def test_a_wrong_region_names_the_place_to_set_it(s3_buckets: Buckets, tmp_path: Path) -> None:
    """The server at hand takes any region: the answer is the one that AWS documents."""
    with proxy_to(s3_buckets.store.port) as proxy:
        reply = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        reply += f"Content-Length: {len(WRONG_REGION)}\r\n\r\n{WRONG_REGION}".encode()
        proxy.begin(REPLY, lambda *_: True, reply=reply)
        hook = s3_buckets.hook(s3_buckets.store.connection(proxy.port, region_name="us-east-1"))
        with pytest.raises(SetupError, match=r"expecting 'ap-south-1'\. Set region_name in the extra"):
            hook.publish(package(tmp_path, b"zip"), KEY)
    assert s3_buckets.published() == {}
    assert s3_buckets.hook().publish(package(tmp_path, b"zip"), KEY) == 3


def test_a_store_that_is_not_there_is_tried_again(s3_buckets: Buckets, tmp_path: Path) -> None:
    nowhere = s3_buckets.store.connection(1, config_kwargs=IMPATIENT)
    with pytest.raises(SourceError, match=r"Could not connect to the endpoint URL"):
        s3_buckets.hook(nowhere).publish(package(tmp_path, b"zip"), KEY)


# A store that refuses deletions

REFUSALS = {
    "not implemented": (501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
    "no checksum": (400, "MissingContentMD5", "Missing required header for this request: Content-MD5"),
    "not allowed": (403, "AccessDenied", "Access Denied"),
}


def refusal(status: int, code: str, message: str) -> bytes:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def of_many(_before: bytes, now: bytes) -> bool:
    """Be the moments when several objects are to be deleted in one request."""
    return now.startswith(b"POST ") and b"?delete" in now.split(b"\r\n")[0]


@pytest.mark.parametrize("refused", REFUSALS)
def test_objects_are_deleted_one_by_one_where_a_store_refuses_to_delete_several(s3_buckets: Buckets, refused: str) -> None:
    with proxy_to(s3_buckets.store.port) as proxy:
        hook = s3_buckets.hook(s3_buckets.store.connection(proxy.port, config_kwargs=IMPATIENT))
        for name in ("run/a.json", "run/b/c.json", "run/b/d.json", "runner/e.json"):
            write_atomically(hook._staging / name, b"{}")
        proxy.begin(REPLY, of_many, reply=refusal(*REFUSALS[refused]))
        folder = BatchFolder(hook.run_folder("runner"), "batch", nullcontext)
        write_atomically(folder.path / HierarchyManifest.FILE_NAME, b"{}")
        for _ in range(2):
            delete_folder(hook.run_folder("run"))
            folder.delete_manifest(HierarchyManifest)
        assert proxy.met
    assert s3_buckets.staged() == ["runner/e.json"]


def test_an_object_that_cannot_be_deleted_does_not_keep_the_others(s3_buckets: Buckets) -> None:
    with proxy_to(s3_buckets.store.port) as proxy:
        hook = s3_buckets.hook(s3_buckets.store.connection(proxy.port, config_kwargs=IMPATIENT))
        for name in ("a", "b", "c"):
            write_atomically(hook.run_folder("run") / f"{name}.json", b"{}")
        proxy.begin(REPLY, of_many_or_b, reply=refusal(*REFUSALS["not allowed"]))
        with pytest.raises(SetupError, match=r"Staging .*/run: 1 of 3 files could not be deleted: .*Access Denied") as caught:
            delete_folder(hook.run_folder("run"))
        assert "b.json" not in str(caught.value)
        proxy.end()
    assert s3_buckets.staged() == ["run/b.json"]


def of_many_or_b(before: bytes, now: bytes) -> bool:
    return of_many(before, now) or (now.startswith(b"DELETE ") and b"b.json" in now.split(b"\r\n")[0])


# Rights


@pytest.fixture
def readers_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Buckets, str, str]]:
    """Give an S3 that asks everybody who he is; the logins of one who may write, and of one who may only read."""
    import boto3

    with stores.s3(tmp_path) as store:
        buckets = Buckets(store, "rights")
        for which in ("reports", "private"):
            buckets.make(which)
        url = f"http://127.0.0.1:{store.port}"
        iam = boto3.client("iam", "ap-south-1", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test")
        logins = []
        least = S3_RIGHTS.replace("REPORTS", "reports-rights").replace("PRIVATE", "private-rights")
        reads = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
        only_read = json.dumps({"Version": "2012-10-17", "Statement": [reads]})
        for user, policy in {"writer": least, "reader": only_read}.items():
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=policy)
            key = iam.create_access_key(UserName=user)["AccessKey"]
            login = f"{quote(key['AccessKeyId'], safe='')}:{quote(key['SecretAccessKey'], safe='')}"
            logins.append(store.connection().replace("test:test", login))
        requests.post(f"{url}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()
        yield buckets, *logins


def test_a_login_without_rights_on_s3_publishes_nothing_until_it_has_them(
    readers_s3: tuple[Buckets, str, str], tmp_path: Path
) -> None:
    buckets, writer, reader = readers_s3
    for login, said in ((reader, "AccessDenied"), (buckets.store.connection(), "InvalidAccessKeyId")):
        hook = buckets.hook(login)
        for work in (lambda hook=hook: hook.publish(package(tmp_path, b"zip"), KEY), hook.is_public):
            with pytest.raises(SetupError, match=rf"s3://reports-rights: .*{said}.* Let the login of connection") as caught:
                work()
            assert "Secret" not in str(caught.value)
    hook = buckets.hook(writer)
    assert list(hook.packages()) == []
    assert not hook.is_public()
    assert hook.publish(package(tmp_path, b"zip"), KEY) == 3
    # Nothing more is granted than it needs, and all of that: staging, retention, and nothing else.
    staged = hook.run_folder("run") / "x.json"
    write_atomically(staged, b"{}")
    assert staged.read_bytes() == b"{}"
    assert [file.name for _, _, file in hook.staged_files()] == ["run/x.json"]
    hook.check_staging_is_private("run")
    # moto asks for the right to remove several at once of the bucket, and AWS of each object: so they are removed one by one.
    delete_folder(hook.run_folder("run"))
    assert list(hook.staged_files()) == []
    [stored] = hook.packages()
    hook.delete_package(stored.name)
    assert list(hook.packages()) == []
    with pytest.raises(PermissionError):
        hook._container.fs.pipe_file(f"reports-rights/elsewhere/{KEY}", b"zip")


def test_a_login_without_rights_on_azure_publishes_nothing_until_it_has_them(running: object, tmp_path: Path) -> None:
    if not stores.AZURITE.exists():
        pytest.skip("Azurite is not installed: npm was missing when `make stores` ran")
    buckets = Buckets(running("azure"), "rights")
    for which in ("reports", "private"):
        buckets.make(which)
    wrong = buckets.store.connection(AccountKey="d3Jvbmc=")
    with pytest.raises(SetupError, match=r"abfs://reports-rights: .*Let the login of connection"):
        buckets.hook(wrong).publish(package(tmp_path, b"zip"), KEY)
    assert buckets.published() == {}
    assert buckets.hook().publish(package(tmp_path, b"zip"), KEY) == 3
