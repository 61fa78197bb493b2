"""The four security levels, from an org's policy to what its requester opens; and what is never made weaker."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest

from dev.world import JOB_ID, Row, World, many_batches_world
from tests.integration.install import KEYS_PATH, REPORT_DAY, Install, RunResult
from tests.openssl import decrypted, key_pair, platform_encrypted
from tests.oracle import expected_csv

PASSWORD, TEXT = "S3cret pass-word", "पासवर्ड १२३"
SALT = "the/installs?salt"
SECRETS = (PASSWORD, TEXT, SALT)
SALTED = {"SALT": f"generic://:{quote(SALT, safe='')}@"}
PLAIN, BY_PASSWORD, BY_TEXT, BY_PUBLIC_KEY = (
    "PLAIN_DATASET", "PASSWORD_PROTECTED_DATASET", "TEXT_KEY_ENCRYPTED_DATASET", "PUBLIC_KEY_ENCRYPTED_DATASET",
)  # fmt: skip
BATCHES = 3  # of each request that is met

MET: dict[str, Row] = {
    "plain by the tenant": {"policy": {"level": PLAIN}, "opened": {}},
    "plain by the job": {"policy": {"level": BY_TEXT, "job": {JOB_ID: {"level": PLAIN}}}, "opened": {}},
    "a password, stored encrypted": {
        "policy": {"level": PLAIN, "job": {JOB_ID: {"level": BY_PASSWORD}}},
        "encryption_key": platform_encrypted(PASSWORD, SALT),
        "opened": {"password": PASSWORD},
    },
    "a password, stored plain": {
        "policy": {"level": BY_PASSWORD}, "encryption_key": PASSWORD, "opened": {"password": PASSWORD},
    },
    "a text key": {
        "policy": {"level": BY_TEXT}, "encryption_key": platform_encrypted(TEXT, SALT), "opened": {"text": TEXT},
    },
    "a public key": {"policy": {"level": BY_PUBLIC_KEY}, "keys": ["public.pem"], "opened": {"private_key": True}},
    "no policy, and a public key": {"keys": ["public.pem"], "encryption_key": TEXT, "opened": {"private_key": True}},
    "no policy, and a requester's key": {"encryption_key": TEXT, "opened": {"text": TEXT}},
    "an empty policy, and no key": {"policy": {}, "opened": {}},
}  # fmt: skip
REFUSED: dict[str, Row] = {
    "a password and no key": {"policy": {"level": BY_PASSWORD}, "words": "the request has no encryption key"},
    "a password and a blank key": {
        "policy": {"level": BY_PASSWORD}, "encryption_key": " ", "words": "the request has no encryption key",
    },
    "a text key and none": {"policy": {"level": BY_TEXT}, "words": "the request has no encryption key"},
    "a key of another salt": {
        "policy": {"level": BY_PASSWORD}, "encryption_key": platform_encrypted(PASSWORD, "other"), "words": "cannot be read",
    },
    "an unreadable key without a policy": {
        "encryption_key": platform_encrypted(PASSWORD, "other"), "words": "cannot be read",
    },
    "an unknown level": {"policy": {"level": "L4"}, "words": "names an unknown level, 'L4'"},
    "an invalid policy": {"policy": ["PLAIN_DATASET"], "words": "policy cannot be read"},
    "no public key": {"policy": {"level": BY_PUBLIC_KEY}, "encryption_key": TEXT, "words": "the org has no public key"},
    "a short public key": {"policy": {"level": BY_PUBLIC_KEY}, "keys": ["short.pem"], "words": "has 1024 bits"},
    "a short public key without a policy": {"keys": ["short.pem"], "words": "has 1024 bits"},
    "an invalid public key": {"policy": {"level": BY_PUBLIC_KEY}, "keys": ["none.pem"], "words": "not a public key"},
    "a public key that is not there": {"policy": {"level": BY_PUBLIC_KEY}, "keys": ["missing.pem"], "words": "answered with 404"},
    "a public key elsewhere": {
        "policy": {"level": BY_PUBLIC_KEY}, "keys": ["https://elsewhere.example.org/public.pem"], "words": "not be downloaded",
    },
}  # fmt: skip


@dataclass
class Asked:
    """Nine requests that can be met, as MET says, and as many as REFUSED has that cannot; each of an org of its own."""

    install: Install
    met: World
    refused: World
    private_key: Path

    def request(self, name: str) -> Row:
        """Return a request by its name in MET or REFUSED."""
        world, names = (self.met, MET) if name in MET else (self.refused, REFUSED)
        return world.requests[list(names).index(name)] | {"encryption_key": names[name].get("encryption_key")}

    def batches(self, name: str) -> list[str]:
        batches: list[str] = self.request(name)["request_data"]["batchFilter"]
        return batches

    def submit(self, *names: str) -> None:
        self.install.submit([self.request(name) for name in names])

    def run(self, settings: Row | None = None, connections: dict[str, str] | None = None, **more: Any) -> RunResult:
        """Run the DAG with all that the levels need; nothing secret shows anywhere but in the files."""
        host = self.install.content.url.removeprefix("http://")
        allowed = {"public_key_hosts": [host], "public_key_private_hosts": [host], "public_key_plain_http": True}
        result = self.install.run_dag(settings=allowed | (settings or {}), connections=SALTED | (connections or {}), **more)
        ledger = str([self.install.sql(f"SELECT * FROM progress_exhaust.{table}") for table in ("claim", "batch_run")])
        errors = str([row["err_message"] for row in self.install.rows().values()])
        kept = self.install.airflow.all_that_is_kept()
        keys = [row["encryption_key"] for row in self.install.rows().values() if row["encryption_key"]]
        for secret in (*SECRETS, *(key for key in keys if key.strip())):
            assert all(secret not in text for text in (result.log, ledger, errors, kept)), secret
        return result

    def opened(self, name: str, key: str) -> bytes:
        """Open a published package as its requester does."""
        how, package = MET[name]["opened"], self.install.reports / key
        data = unpacked(package, how.get("password"))
        if "text" in how:
            return decrypted(data, text=how["text"])
        return decrypted(data, private_key=self.private_key) if "private_key" in how else data


def unpacked(package: Path, password: str | None = None) -> bytes:
    with_password = [f"-p{password}"] if password else []
    return subprocess.run(["7z", "e", "-so", *with_password, package], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def loaded(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    asked = Asked(
        install,
        many_batches_world(len(MET) * BATCHES, 4, per_request=BATCHES),
        many_batches_world(len(REFUSED), 2, seed=2, per_request=1),
        tmp_path_factory.mktemp("keys") / "private.pem",
    )
    private, public = key_pair(tmp_path_factory.mktemp("good"))
    private.rename(asked.private_key)
    served = install.content.data / "keys"
    served.mkdir()
    public.rename(served / "public.pem")
    key_pair(tmp_path_factory.mktemp("short"), bits=1024)[1].rename(served / "short.pem")
    (served / "none.pem").write_text("<html>")
    for world, names in ((asked.met, MET), (asked.refused, REFUSED)):
        for name, request in zip(names, world.requests, strict=True):
            wants = names[name]
            urls = [urljoin(f"{install.content.url}{KEYS_PATH}/", file) for file in wants.get("keys", ())]
            org = {"keys": urls} | ({"policy": wants["policy"]} if "policy" in wants else {})
            world.orgs[request["requested_channel"]] = org
        install.load(replace(world, requests=[]))
    return asked


@pytest.fixture
def asked(loaded: Asked, queue: Install) -> Asked:
    """Give one test the loaded orgs, and nothing asked for yet."""
    return loaded


def test_each_level_is_kept_for_each_batch_and_nothing_is_made_weaker(asked: Asked) -> None:
    asked.submit(*MET, *REFUSED)
    result = asked.run()
    assert (result.state, result.failed()) == ("success", [])
    keys = []
    for name in MET:
        request = asked.request(name)
        row = asked.install.row(request)
        assert (row["status"], row["err_message"]) == ("SUCCESS", None), name
        assert len(row["download_urls"]) == BATCHES
        for batch in asked.batches(name):
            [key] = [key for key in row["download_urls"] if f"/{batch}_" in key]
            csv = expected_csv(asked.met, request, batch, REPORT_DAY)
            assert csv.count(b"\n") > 2
            assert asked.opened(name, key) == csv, name
            if MET[name]["opened"]:
                # As the stock installer serves the container to anonymous users: they see nothing of the csv.
                assert not is_open(asked.install.reports / key), name
            keys.append(key)
    for name in REFUSED:
        row = asked.install.row(asked.request(name))
        assert (row["status"], row["iteration"], row["download_urls"]) == ("FAILED", 0, None), name
        assert REFUSED[name]["words"] in row["err_message"], name
    assert sorted(asked.install.published()) == sorted(keys)
    assert asked.install.staged() == []


def test_once_an_unknown_level_is_fixed_the_next_run_makes_the_report(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "an unknown level"
    request, [batch] = asked.request(name), asked.batches(name)
    asked.submit(name)
    assert asked.run().state == "success"
    row = asked.install.row(request)
    assert row["status"] == "FAILED" and REFUSED[name]["words"] in row["err_message"]
    monkeypatch.setattr(asked.install.content, "org", lambda _: {"policy": {"level": PLAIN}})
    resubmit(asked.install)
    assert asked.run().state == "success"
    row = asked.install.row(request)
    assert (row["status"], row["err_message"]) == ("SUCCESS", None)
    assert asked.install.csv(row["download_urls"][0]) == expected_csv(asked.refused, request, batch, REPORT_DAY)


def resubmit(install: Install) -> None:
    """Ask again for what has failed, as a requester does."""
    install.sql("UPDATE job_request SET status = 'SUBMITTED' WHERE status = 'FAILED'")


def is_open(package: Path) -> bool:
    """Tell whether a package gives a csv to users without a key."""
    done = subprocess.run(["7z", "e", "-so", "-p", package], check=False, capture_output=True)
    return b"User UUID" in done.stdout


def test_a_zip_for_old_tools_is_opened_by_unzip_and_warned_of(asked: Asked) -> None:
    name = "a password, stored plain"
    asked.submit(name)
    result = asked.run({"zip_cipher": "ZipCrypto"})
    assert result.state == "success" and result.says("ZipCrypto", "broken")
    for key, batch in zip(sorted(asked.install.published()), sorted(asked.batches(name)), strict=True):
        command = ["unzip", "-p", "-P", PASSWORD, asked.install.reports / key]
        printed = subprocess.run(command, check=True, capture_output=True).stdout
        assert printed == expected_csv(asked.met, asked.request(name), batch, REPORT_DAY)
        assert not is_open(asked.install.reports / key)


def test_preferences_that_are_down_are_asked_again_and_no_file_is_made_meanwhile(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a password, stored encrypted"
    asked.submit(name)
    with monkeypatch.context() as down:
        down.setattr(asked.install.content, "org", failing)
        down.setattr(asked.install.content, "handle_error", lambda *_: None)
        result = asked.run(retries=1)
    assert (result.state, result.failed()) == ("failed", ["batch.package"])
    assert {task["tries"] for task in result.tasks if task["task_id"] == "batch.package"} == {2}
    assert result.says("progress_exhaust_org", "does not answer")
    row = asked.install.row(asked.request(name))
    assert row["status"] == "FAILED" and "could not be made this time. The next run tries again" in row["err_message"]
    assert asked.install.published() == {}

    assert asked.run().state == "success"
    assert [not is_open(asked.install.reports / key) for key in asked.install.published()] == [True] * BATCHES


def failing(identifier: str) -> Row:
    raise ConnectionError(identifier)


def test_a_gateway_without_the_path_does_not_count_as_an_org_without_a_policy(asked: Asked) -> None:
    asked.submit("a password, stored plain")
    result = asked.run(connections={"ORG": f"{asked.install.content.url}/elsewhere"})
    assert (result.failed(), asked.install.published()) == (["batch.package"], {})
    assert result.says("progress_exhaust_org", "answered /private/v2/org/preferences/read with 404")


@pytest.mark.parametrize(
    ("name", "settings", "connections", "words"),
    [
        ("plain by the tenant", {}, {"ORG": ""}, ["connection progress_exhaust_org is missing", "set org_policy_source to none"]),
        ("a password, stored encrypted", {}, {"SALT": ""}, ["no salt", "Add a connection progress_exhaust_salt"]),
        ("a public key", {"public_key_hosts": []}, {}, ["to the setting public_key_hosts"]),
    ],
    ids=["connection", "salt", "hosts"],
)
def test_what_the_site_lacks_is_reported_with_the_fix(
    asked: Asked, name: str, settings: Row, connections: dict[str, str], words: list[str]
) -> None:
    asked.submit(name)
    result = asked.run(settings, connections, retries=2)
    assert (result.failed(), asked.install.published()) == (["batch.package"], {})
    assert {task["tries"] for task in result.tasks if task["task_id"] == "batch.package"} == {1}  # no retry
    assert result.says(*words)
    row = asked.install.row(asked.request(name))
    assert (row["status"], row["iteration"]) == ("FAILED", 0)
    assert "cannot be made until an operator corrects the installation" in row["err_message"]
    assert asked.run().state == "success"
    assert len(asked.install.published()) == BATCHES


def test_a_site_without_preferences_goes_by_its_default(asked: Asked) -> None:
    asked.submit("plain by the tenant", "a text key")
    none = {"org_policy_source": "none"}
    result = asked.run(none | {"default_security_level": BY_PASSWORD}, {"ORG": ""})
    assert result.state == "success"
    refused, met = (asked.install.row(asked.request(name)) for name in ("plain by the tenant", "a text key"))
    assert refused["status"] == "FAILED" and "the request has no encryption key" in refused["err_message"]
    assert [unpacked(asked.install.reports / key, TEXT)[:13] for key in met["download_urls"]] == [b"Collection Id"] * BATCHES
    resubmit(asked.install)
    assert asked.run(none, {"ORG": ""}).state == "success"
    keys = asked.install.row(asked.request("plain by the tenant"))["download_urls"]
    assert [unpacked(asked.install.reports / key)[:13] for key in keys] == [b"Collection Id"] * BATCHES


def test_a_run_without_a_request_is_plain_or_says_that_it_cannot_be_protected(asked: Asked) -> None:
    [batch, *_] = asked.batches("a text key")
    asked.install.run_dag({"request_ids": ["none"]})  # makes the ledger
    result = asked.run({"default_security_level": BY_TEXT}, conf={"batch_ids": [batch]})
    assert (result.failed(), asked.install.published()) == (["batch.package"], {})
    assert result.says("has no encryption key", "set another default_security_level")
    assert asked.run(connections={"ORG": ""}, conf={"batch_ids": [batch]}).state == "success"
    [key] = asked.install.published()
    assert asked.install.csv(key) == expected_csv(asked.met, None, batch, REPORT_DAY)


def test_duplicates_share_the_protected_files(asked: Asked) -> None:
    name = "a text key"
    request = asked.request(name)
    asked.install.submit([request, request | {"tag": "again", "request_id": "DUPLICATE"}])
    assert asked.run().state == "success"
    rows = asked.install.rows()
    assert rows["DUPLICATE"]["download_urls"] == rows[request["request_id"]]["download_urls"]
    assert len(asked.install.published()) == BATCHES


def test_a_secret_that_anything_logs_is_masked(asked: Asked) -> None:
    password, salt = "one that no other test has shown to Airflow", "nor-this-one"
    stored = platform_encrypted(password, salt)
    asked.install.submit([asked.request("a password, stored encrypted") | {"encryption_key": stored}])
    said = f"quoted: {password} / {salt} / {stored}"
    result = asked.run(connections={"SALT": f"generic://:{salt}@"}, say=said)
    assert result.state == "success" and result.says("quoted: *** / *** / ***")
