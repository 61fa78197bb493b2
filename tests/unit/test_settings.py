"""A site's settings: defaults for a stock install, and every mistake in words that say what, where and what to do."""

import json
from typing import Any

import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.settings import Settings, nearest, parse_settings

NAMES = sorted(Settings.model_fields)


def mistake(**values: Any) -> str:
    with pytest.raises(SetupError) as caught:
        parse_settings(json.dumps(values))
    return str(caught.value)


@pytest.mark.parametrize("text", [None, "", " \n", "{}"])
def test_a_site_that_sets_nothing_has_the_defaults(text: str | None) -> None:
    assert parse_settings(text) == Settings()


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("job_request_table", "job_request"),
        ("courses_keyspace", "sunbird_courses"),
        ("hierarchy_table", "dev_hierarchy_store.content_hierarchy"),
        ("user_cache_db", 12),
        ("relation_cache_db", 5),
        ("assessment_content_types", ("SelfAssess",)),
        ("assessment_object_types", ("QuestionSet",)),
        ("assessment_categories", ("Practice Question Set",)),
        ("chosen_attempt", "best"),
        ("failed_certificate_statuses", (2,)),
        ("layout", "standard"),
        ("column_labels", "id"),
        ("report_timezone", "Asia/Kolkata"),
        ("csv_bom", False),
        ("defuse_formulas", True),
        ("org_preferences", "api"),
        ("org_preferences_path", "/private/v2/org/preferences/read"),
        ("org_search_path", "/private/v2/org/search"),
        ("default_security_level", "strictest"),
        ("zip_cipher", "AES-256"),
        ("platform_key", "ThisAsISerceKtey"),
        ("public_key_hosts", ()),
        ("public_key_private_hosts", ()),
        ("public_key_plain_http", False),
        ("missing_users_percent", 20),
        ("batches_per_request", 20),
        ("batches_per_channel", 30),
        ("bytes_per_channel", 2**30),
        ("abandoned_after_hours", 24),
        ("consistency", "LOCAL_QUORUM"),
    ],
)
def test_a_default_is_what_sunbird_has_or_the_specification_says(name: str, default: object) -> None:
    assert getattr(Settings(), name) == default


def test_files_lie_in_airflows_home_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", "/srv/air flow")
    assert Settings().container == "file:///srv/air%20flow/progress-exhaust/reports"
    assert Settings().staging == "file:///srv/air%20flow/progress-exhaust/staging"


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_says_what_it_is_for(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description and len(description) > 15


@pytest.mark.parametrize("name", [name for name in NAMES if name != "layout"])  # layouts is a setting too
def test_a_spelling_mistake_names_the_right_setting(name: str) -> None:
    assert mistake(**{f"{name}s": 1}).endswith(f"unknown setting {name}s; did you mean {name}?")


def test_an_unknown_setting_without_a_neighbour_names_them_all() -> None:
    assert "unknown setting zzz; known: abandoned_after_hours, " in mistake(zzz=1)


@pytest.mark.parametrize(
    ("name", "value", "what_to_do"),
    [
        ("container", "/reports", "should match pattern"),
        ("container", "", "should match pattern"),
        ("container", "oci://reports", "'^(file|s3|abfs|abfss|gs)://.+'"),
        ("staging", 7, "should be a valid string"),
        ("job_request_table", "a.b.c", "should match pattern"),
        ("job_request_table", "x; drop table y", "should match pattern"),
        ("job_request_table", "job_request\n", "should match pattern"),
        ("ledger_schema", 'a"b', "should match pattern"),
        ("enrolments_table", "user_enrolments", "should match pattern"),
        ("courses_keyspace", "sunbird-courses", "should match pattern"),
        ("hierarchy_table", "a.b where", "should match pattern"),
        ("user_cache_db", -1, "greater than or equal to 0"),
        ("relation_cache_db", "five", "valid integer"),
        ("content_search_path", "v1/search", "should match pattern"),
        ("content_hierarchy_path", "/v3/hierarchy", "must contain {id}"),
        ("assessment_content_types", "SelfAssess", "valid tuple"),
        ("chosen_attempt", "first", "should be 'best' or 'latest'"),
        ("failed_certificate_statuses", ["two"], "valid integer"),
        ("column_labels", "names", "should be 'id' or 'name'"),
        ("report_timezone", "India", "is no IANA time zone, such as Asia/Kolkata"),
        ("report_timezone", "../etc/passwd", "is no IANA time zone"),
        ("report_timezone", "", "is no IANA time zone"),
        ("report_timezone", "Factory", "is no IANA time zone"),
        ("report_timezone", "right/Asia/Kolkata", "is no IANA time zone"),
        ("csv_bom", "perhaps", "valid boolean"),
        ("defuse_formulas", None, "valid boolean"),
        ("org_preferences", "file", "should be 'api' or 'none'"),
        ("org_preferences_path", "private", "should match pattern"),
        ("org_search_path", "", "should match pattern"),
        ("default_security_level", "L4", "should be 'strictest', 'PLAIN_DATASET'"),
        ("zip_cipher", "none", "should be 'AES-256' or 'ZipCrypto'"),
        ("platform_key", "too short", "should match pattern"),
        ("public_key_hosts", ["https://keys.example.org"], "should match pattern"),
        ("public_key_hosts", "keys.example.org", "valid tuple"),
        ("public_key_private_hosts", ["a host"], "should match pattern"),
        ("public_key_plain_http", "perhaps", "valid boolean"),
        ("missing_users_percent", 101, "less than or equal to 100"),
        ("missing_users_percent", -1, "greater than or equal to 0"),
        ("batches_per_request", 0, "greater than or equal to 1"),
        ("batches_per_channel", 0, "greater than or equal to 1"),
        ("bytes_per_channel", 0, "greater than or equal to 1"),
        ("batch_number", "one", "valid integer"),
        ("channels", "org", "valid tuple"),
        ("retention_days", 0, "greater than 0"),
        ("staging_days", None, "valid number"),
        ("allow_public_container", "perhaps", "valid boolean"),
        ("abandoned_after_hours", 0, "greater than 0"),
        ("batches_per_run", 1001, "less than or equal to 1000"),
        ("wait_seconds", -1, "greater than or equal to 0"),
        ("learners_per_part", 0, "greater than or equal to 1"),
        ("keys_per_read", 0, "greater than or equal to 1"),
        ("reads_in_flight", 0, "greater than or equal to 1"),
        ("read_timeout_seconds", 0, "greater than 0"),
        ("consistency", "local_quorum", "should be 'LOCAL_QUORUM', 'LOCAL_ONE'"),
        ("enrolments_connection", None, "valid string"),
    ],
)
def test_a_wrong_value_says_where_it_stands_and_what_is_right(name: str, value: object, what_to_do: str) -> None:
    message = mistake(**{name: value})
    assert message.startswith(f"Variable progress_exhaust: {name}")
    assert what_to_do in message


def test_public_keys_need_the_orgs_to_name_them() -> None:
    by_public_key = {"default_security_level": "PUBLIC_KEY_ENCRYPTED_DATASET"}
    assert parse_settings(json.dumps(by_public_key)).org_preferences == "api"
    words = "default_security_level: PUBLIC_KEY_ENCRYPTED_DATASET needs org_preferences api, for the orgs' keys"
    assert mistake(org_preferences="none", **by_public_key) == f"Variable progress_exhaust: {words}"


@pytest.mark.parametrize(
    ("container", "staging"),
    [("s3://a/reports", "s3://a/reports/staging"), ("file:///a/b/", "file:///a/b"), ("abfs://c/staging/x", "abfs://c/staging/")],
)
def test_what_is_staged_lies_apart_from_what_requesters_read(container: str, staging: str) -> None:
    message = mistake(container=container, staging=staging)
    assert message.startswith("Variable progress_exhaust: container and staging must lie apart")


def test_folders_of_one_bucket_that_only_begin_alike_are_apart() -> None:
    assert parse_settings('{"container": "s3://a/x", "staging": "s3://a/x-staging"}').staging == "s3://a/x-staging"


def test_every_mistake_is_told_at_once() -> None:
    message = mistake(user_cache_db=-1, cvs_bom=True, layout="mine")
    assert (
        all(name in message for name in ("user_cache_db", "cvs_bom; did you mean csv_bom?", "layout")) and message.count("; ") > 2
    )


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is no JSON"), ("[]", "must be a JSON object of settings, not list"), ('"x"', "not str")]
)
def test_what_is_no_object_of_settings_is_a_mistake_of_the_variable(text: str, message: str) -> None:
    with pytest.raises(SetupError, match=f"Variable progress_exhaust.*{message}"):
        parse_settings(text)


@pytest.mark.parametrize(
    ("values", "name", "kept"),
    [
        ({"assessment_content_types": ["SelfAssess", "Quiz"]}, "assessment_content_types", ("SelfAssess", "Quiz")),
        ({"failed_certificate_statuses": []}, "failed_certificate_statuses", ()),
        ({"job_request_table": "report.dev_job_request"}, "job_request_table", "report.dev_job_request"),
        ({"container": "s3://bucket/reports"}, "container", "s3://bucket/reports"),
        ({"report_timezone": "UTC"}, "report_timezone", "UTC"),
        ({"wait_seconds": 0}, "wait_seconds", 0),
        ({"public_key_hosts": ["Keys.Example.org:8443"]}, "public_key_hosts", ("keys.example.org:8443",)),
    ],
)
def test_what_is_set_is_kept_and_the_rest_is_default(values: dict[str, Any], name: str, kept: object) -> None:
    settings = parse_settings(json.dumps(values))
    assert getattr(settings, name) == kept
    assert settings == Settings().model_copy(update={name: kept})


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().csv_bom = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "said"), [("layuot", "did you mean layout?"), ("x", "known: force, layout"), ("Force", "did you mean force?")]
)
def test_the_nearest_name(name: str, said: str) -> None:
    assert nearest(name, ["layout", "force"]) == said
