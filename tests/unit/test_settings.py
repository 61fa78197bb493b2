"""Test the settings: their defaults, the messages for mistakes, and the earlier names."""

import json
from typing import Any

import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.settings import Settings, nearest, parse_settings, renamed

NAMES = sorted(Settings.model_fields)


def mistake(**values: Any) -> str:
    with pytest.raises(SetupError) as caught:
        parse_settings(json.dumps(values))
    return str(caught.value)


@pytest.mark.parametrize("text", [None, "", " \n", "{}"])
def test_defaults_apply_if_nothing_is_set(text: str | None) -> None:
    assert parse_settings(text) == Settings()


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("job_request_table", "job_request"),
        ("courses_keyspace", "sunbird_courses"),
        ("hierarchy_table", "dev_hierarchy_store.content_hierarchy"),
        ("user_cache_db", 12),
        ("optional_nodes_db", 5),
        ("assessment_content_types", ("SelfAssess",)),
        ("assessment_object_types", ("QuestionSet",)),
        ("assessment_categories", ("Practice Question Set",)),
        ("scored_attempt", "best"),
        ("failed_certificate_statuses", (2,)),
        ("layout", "standard"),
        ("dynamic_column_labels", "id"),
        ("report_timezone", "Asia/Kolkata"),
        ("csv_bom", False),
        ("escape_formulas", True),
        ("org_policy_source", "api"),
        ("org_preferences_path", "/private/v2/org/preferences/read"),
        ("org_search_path", "/private/v2/org/search"),
        ("default_security_level", "strictest"),
        ("zip_cipher", "AES-256"),
        ("platform_encryption_key", "ThisAsISerceKtey"),
        ("public_key_hosts", ()),
        ("public_key_private_hosts", ()),
        ("public_key_plain_http", False),
        ("max_missing_users_percent", 20),
        ("batches_per_request", 20),
        ("batches_per_channel", 30),
        ("bytes_per_channel", 2**30),
        ("abandoned_processing_hours", 24),
        ("cassandra_consistency", "LOCAL_QUORUM"),
    ],
)
def test_default_follows_sunbird_or_the_specification(name: str, default: object) -> None:
    assert getattr(Settings(), name) == default


def test_files_are_stored_in_airflows_home_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", "/srv/air flow")
    assert Settings().reports_container_url == "file:///srv/air%20flow/progress-exhaust/reports"
    assert Settings().staging_url == "file:///srv/air%20flow/progress-exhaust/staging"


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_is_described(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description and len(description) > 15


@pytest.mark.parametrize("name", [name for name in NAMES if name != "layout"])  # layouts is a setting too
def test_spelling_mistake_names_the_right_setting(name: str) -> None:
    assert mistake(**{f"{name}s": 1}).endswith(f"unknown setting {name}s; did you mean {name}?")


def test_unknown_setting_lists_all_names_if_none_is_similar() -> None:
    assert "unknown setting zzz; known: abandoned_processing_hours, " in mistake(zzz=1)


@pytest.mark.parametrize(
    ("name", "value", "what_to_do"),
    [
        ("reports_container_url", "/reports", "should match pattern"),
        ("reports_container_url", "", "should match pattern"),
        ("reports_container_url", "oci://reports", "'^(file|s3|abfs|abfss|gs)://.+'"),
        ("staging_url", 7, "should be a valid string"),
        ("job_request_table", "a.b.c", "should match pattern"),
        ("job_request_table", "x; drop table y", "should match pattern"),
        ("job_request_table", "job_request\n", "should match pattern"),
        ("ledger_schema", 'a"b', "should match pattern"),
        ("enrolments_table", "user_enrolments", "should match pattern"),
        ("courses_keyspace", "sunbird-courses", "should match pattern"),
        ("hierarchy_table", "a.b where", "should match pattern"),
        ("user_cache_db", -1, "greater than or equal to 0"),
        ("optional_nodes_db", "five", "valid integer"),
        ("content_search_path", "v1/search", "should match pattern"),
        ("content_hierarchy_path", "/v3/hierarchy", "must contain {id}"),
        ("assessment_content_types", "SelfAssess", "valid tuple"),
        ("scored_attempt", "first", "should be 'best' or 'latest'"),
        ("failed_certificate_statuses", ["two"], "valid integer"),
        ("dynamic_column_labels", "names", "should be 'id' or 'name'"),
        ("report_timezone", "India", "is not an IANA time zone, such as Asia/Kolkata"),
        ("report_timezone", "../etc/passwd", "is not an IANA time zone"),
        ("report_timezone", "", "is not an IANA time zone"),
        ("report_timezone", "Factory", "is not an IANA time zone"),
        ("report_timezone", "right/Asia/Kolkata", "is not an IANA time zone"),
        ("csv_bom", "perhaps", "valid boolean"),
        ("escape_formulas", None, "valid boolean"),
        ("org_policy_source", "file", "should be 'api' or 'none'"),
        ("org_preferences_path", "private", "should match pattern"),
        ("org_search_path", "", "should match pattern"),
        ("default_security_level", "L4", "should be 'strictest', 'PLAIN_DATASET'"),
        ("zip_cipher", "none", "should be 'AES-256' or 'ZipCrypto'"),
        ("platform_encryption_key", "too short", "should match pattern"),
        ("public_key_hosts", ["https://keys.example.org"], "should match pattern"),
        ("public_key_hosts", "keys.example.org", "valid tuple"),
        ("public_key_private_hosts", ["a host"], "should match pattern"),
        ("public_key_plain_http", "perhaps", "valid boolean"),
        ("max_missing_users_percent", 101, "less than or equal to 100"),
        ("max_missing_users_percent", -1, "greater than or equal to 0"),
        ("batches_per_request", 0, "greater than or equal to 1"),
        ("batches_per_channel", 0, "greater than or equal to 1"),
        ("bytes_per_channel", 0, "greater than or equal to 1"),
        ("batch_number", "one", "valid integer"),
        ("channels", "org", "valid tuple"),
        ("retention_days", 0, "greater than 0"),
        ("retention_of_other_packages", "perhaps", "valid boolean"),
        ("staging_days", None, "valid number"),
        ("allow_public_container", "perhaps", "valid boolean"),
        ("abandoned_processing_hours", 0, "greater than 0"),
        ("batches_per_run", 1001, "less than or equal to 1000"),
        ("wait_for_requests_seconds", -1, "greater than or equal to 0"),
        ("learners_per_chunk", 0, "greater than or equal to 1"),
        ("partitions_per_query", 0, "greater than or equal to 1"),
        ("concurrent_queries", 0, "greater than or equal to 1"),
        ("read_timeout_seconds", 0, "greater than 0"),
        ("cassandra_consistency", "local_quorum", "should be 'LOCAL_QUORUM', 'LOCAL_ONE'"),
        ("enrolments_connection", None, "valid string"),
    ],
)
def test_wrong_value_names_the_setting_and_what_is_valid(name: str, value: object, what_to_do: str) -> None:
    message = mistake(**{name: value})
    assert message.startswith(f"Variable progress_exhaust: {name}")
    assert what_to_do in message


def test_public_keys_need_a_source() -> None:
    by_public_key = {"default_security_level": "PUBLIC_KEY_ENCRYPTED_DATASET"}
    assert parse_settings(json.dumps(by_public_key)).org_policy_source == "api"
    words = "default_security_level PUBLIC_KEY_ENCRYPTED_DATASET needs org_policy_source api, the source of public keys"
    assert mistake(org_policy_source="none", **by_public_key) == f"Variable progress_exhaust: {words}"


@pytest.mark.parametrize(
    ("container", "staging"),
    [("s3://a/reports", "s3://a/reports/staging"), ("file:///a/b/", "file:///a/b"), ("abfs://c/staging/x", "abfs://c/staging/")],
)
def test_staging_and_reports_are_separate(container: str, staging: str) -> None:
    message = mistake(reports_container_url=container, staging_url=staging)
    assert message.startswith("Variable progress_exhaust: reports_container_url and staging_url must be separate folders")


def test_folders_with_a_common_prefix_are_separate() -> None:
    assert (
        parse_settings('{"reports_container_url": "s3://a/x", "staging_url": "s3://a/x-staging"}').staging_url
        == "s3://a/x-staging"
    )


def test_one_message_lists_every_mistake() -> None:
    message = mistake(user_cache_db=-1, cvs_bom=True, layout="mine")
    assert (
        all(name in message for name in ("user_cache_db", "cvs_bom; did you mean csv_bom?", "layout")) and message.count("; ") > 2
    )


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not valid JSON"), ("[]", "must be a JSON object of settings, not list"), ('"x"', "not str")]
)
def test_variable_must_be_a_json_object(text: str, message: str) -> None:
    with pytest.raises(SetupError, match=f"Variable progress_exhaust.*{message}"):
        parse_settings(text)


@pytest.mark.parametrize(
    ("values", "name", "kept"),
    [
        ({"assessment_content_types": ["SelfAssess", "Quiz"]}, "assessment_content_types", ("SelfAssess", "Quiz")),
        ({"failed_certificate_statuses": []}, "failed_certificate_statuses", ()),
        ({"job_request_table": "report.dev_job_request"}, "job_request_table", "report.dev_job_request"),
        ({"reports_container_url": "s3://bucket/reports"}, "reports_container_url", "s3://bucket/reports"),
        ({"report_timezone": "UTC"}, "report_timezone", "UTC"),
        ({"wait_for_requests_seconds": 0}, "wait_for_requests_seconds", 0),
        ({"public_key_hosts": ["Keys.Example.org:8443"]}, "public_key_hosts", ("keys.example.org:8443",)),
    ],
)
def test_set_value_is_kept_and_others_are_default(values: dict[str, Any], name: str, kept: object) -> None:
    settings = parse_settings(json.dumps(values))
    assert getattr(settings, name) == kept
    assert settings == Settings().model_copy(update={name: kept})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().csv_bom = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "said"), [("layuot", "did you mean layout?"), ("x", "known: force, layout"), ("Force", "did you mean force?")]
)
def test_nearest_name(name: str, said: str) -> None:
    assert nearest(name, ["layout", "force"]) == said


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture
def first_use() -> None:
    """Forget which earlier names this process has already warned about."""
    renamed._warn.cache_clear()


@pytest.mark.parametrize(("old", "new"), renamed.NEW_NAMES.items())
def test_earlier_name_works_with_one_warning(old: str, new: str, caplog: pytest.LogCaptureFixture, first_use: None) -> None:
    values = {"reports_container_url": "s3://a/b", "staging_url": "s3://a/c", "wait_for_requests_seconds": 7}
    value = values.get(new, getattr(Settings(), new))
    for _ in range(2):
        assert getattr(parse_settings(json.dumps({old: value})), new) == value
    [warning] = warnings(caplog)
    assert warning.startswith(f"Variable progress_exhaust: the setting {old} is now called {new}.")


def test_new_name_logs_no_warning(caplog: pytest.LogCaptureFixture, first_use: None) -> None:
    parse_settings(json.dumps({"staging_url": "s3://a/b"}))
    assert warnings(caplog) == []


def test_earlier_and_new_name_together_are_an_error() -> None:
    message = mistake(staging="s3://a/b", staging_url="s3://a/b")
    assert "staging is the earlier name of staging_url, and both are set. Remove staging from the Variable" in message


def test_earlier_names_are_not_settings() -> None:
    assert renamed.NEW_NAMES.keys() & Settings.model_fields.keys() == set()
    assert set(renamed.NEW_NAMES.values()) <= Settings.model_fields.keys()


def test_scores_from_aggregates_need_the_best_attempt_and_a_layout_that_shows_them() -> None:
    assert "scored_attempt" in mistake(scores_from="aggregates", scored_attempt="latest")
    assert "Layout sunbird-lern-7 shows no scores" in mistake(scores_from="aggregates", layout="sunbird-lern-7")
    settings = parse_settings('{"scores_from": "aggregates"}')
    assert settings.layout_named("standard").archived_scores == "shown"
    with pytest.raises(SetupError, match="Layout sunbird-lern-7 shows no scores of the aggregates"):
        settings.layout_named("sunbird-lern-7")
