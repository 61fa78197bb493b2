"""The Variable: what is left out has a default, and each mistake is named with what is right."""

import json

import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.settings import Settings, parse_settings


@pytest.mark.parametrize("text", [None, "", " ", "{}"])
def test_a_site_that_sets_nothing_gets_the_defaults(text: str | None) -> None:
    settings = parse_settings(text)
    assert (settings.job_request_table, settings.user_cache_db, settings.relation_cache_db) == ("job_request", 12, 5)
    assert settings.container.startswith("file:///")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"contaner": "file:///x"}, "unknown setting contaner; did you mean container?"),
        ({"zzz": 1}, "unknown setting zzz; known: "),
        ({"container": "/plain/path"}, "container: "),
        ({"enrolments_table": "no_keyspace"}, "enrolments_table: "),
        ({"job_request_table": 'x"; DROP TABLE y'}, "job_request_table: "),
        ({"user_cache_db": "twelve"}, "user_cache_db: "),
        ({"report_timezone": "Mars"}, "report_timezone: is no IANA time zone, such as Asia/Kolkata"),
        ({"content_hierarchy_path": "/v3/hierarchy"}, "content_hierarchy_path: must contain {id}"),
        ({"layout": "mine"}, "layout: "),
        ({"batches_per_run": 1001}, "batches_per_run: "),
        ({"batches_per_run": 0, "layout": "mine"}, "layout: "),
    ],
)
def test_a_mistake_is_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(SetupError) as error:
        parse_settings(json.dumps(values))
    assert "Variable progress_exhaust" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(("text", "words"), [("{", "is no JSON"), ("[]", "must be a JSON object of settings, not list")])
def test_a_variable_that_is_no_object_is_refused(text: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        parse_settings(text)


def test_each_setting_says_what_it_means() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
