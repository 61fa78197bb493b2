"""Layouts are data: the built-in ones follow the specification. Each mistake in a site's layout is named."""

import json
import re
from typing import Any

import pytest

from progress_exhaust.errors import SetupError
from progress_exhaust.report import columns
from progress_exhaust.report.layout import BUILT_IN, FIELDS, STANDARD_DATE, Layout
from progress_exhaust.settings import Settings, parse_settings

COLUMN = {"label": "State", "field": "user.state"}


def settings(layout: str = "standard", **layouts: Any) -> Settings:
    return parse_settings(json.dumps({"layout": layout, "layouts": layouts}))


def mistake(layout: str = "standard", **layouts: Any) -> str:
    with pytest.raises(SetupError) as caught:
        settings(layout, **layouts)
    return str(caught.value)


def mistaken(**column: Any) -> str:
    return mistake(mine={"columns": [COLUMN, {"label": "Mine"} | column]})


def test_the_built_in_layouts_have_the_specifications_columns() -> None:
    labels = {name: [column.label for column in layout.columns] for name, layout in BUILT_IN.items()}
    assert labels == {
        "standard": [
            "Collection Id", "Collection Name", "Batch Id", "Batch Name", "User UUID", "User Name", "State", "District",
            "Enrolment Date", "Completion Date", "Progress", "Certificate Status", "Total Score",
        ],
        "sunbird-lern-7": [
            "Declared Board", "Batch Id", "State", "User UUID", "Progress", "Org Name", "Cluster Name", "User Type",
            "Block Name", "School Name", "User Sub Type", "Collection Name", "Collection Id", "Completion Date",
            "Certificate Status", "District", "School Id", "Batch Name", "Enrolment Date", "Total Score",
        ],
    }  # fmt: skip


def test_every_field_of_a_layout_has_cells_and_no_other_has() -> None:
    assert set(columns.FIELDS) == set(FIELDS)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"field": "stat"}, "column 'Mine': there is no field 'stat'. There are collection_id, "),
        ({"field": "stat"}, "attempts, and user.<name> for each field of the user cache except contact fields"),
        ({"field": "user.email"}, "column 'Mine': 'email' is a contact field"),
        ({"field": "user.maskedPhone"}, "column 'Mine': 'maskedPhone' is a contact field"),
        ({"field": "user.recoveryEmail"}, "is a contact field"),
        *(
            ({"field": f"user.{name}"}, f"column 'Mine': {name!r} is a contact field")
            for name in (
                "e_mail",
                "mail",
                "gmailid",
                "tel",
                "home_tel",
                "telno",
                "tel_no",
                "whatsapp",
                "whats_app",
                "cellno",
                "cell",
                "cell_number",
                "telegram",
                "fax",
                "msisdn",
                "mob",
                "mobno",
                "mob_no",
                "parentMob",
                "ph",
                "phno",
                "ph_no",
                "landline",
                "cellular",
                "wa_number",
                "alternatenumber",
                "alt_no",
                "skype",
                "loginid",
                "loginId",
                "username",
                "userName",
                "address",
                "permanent_address",
            )
        ),
        ({"field": "progress", "label": "\ud800"}, "unable to parse raw data as a unicode string"),
        ({"field": "progress", "prefix": "\ud800"}, r"column 'Mine': prefix '\ud800' is not valid text: it has half a character"),
        (
            {"field": "enrolment_date", "format": "dd\udfff"},
            r"column 'Mine': format 'dd\udfff' is not valid text: it has half a character",
        ),
        ({"field": "user.a b"}, "column 'Mine': 'a b' is a contact field, which is never read, or is not a name"),
        ({"field": "user."}, "or is not a name"),
        (
            {"field": "completion_date", "format": "DD/mm/yyyy"},
            "column 'Mine': format 'DD/mm/yyyy' does not fit completion_date: DD is unknown. A date format has yyyy, MM, ",
        ),
        (
            {"field": "completion_date", "format": "dd/mm/yyyy"},
            "column 'Mine': format 'dd/mm/yyyy' does not fit completion_date: mm is the minute and needs HH "
            "(MM is the month). A date format has yyyy, MM, ",
        ),
        ({"field": "enrolment_date", "format": "dd/MM/yyyy dd"}, "does not fit enrolment_date: dd occurs twice. "),
        ({"field": "enrolment_date", "format": "--"}, "does not fit enrolment_date: it has none of these letters. "),
        ({"field": "enrolment_date", "format": ""}, "does not fit enrolment_date: it has none of these letters. "),
        ({"field": "enrolment_date", "format": "dd\x00"}, "'dd\\x00' does not fit enrolment_date: it has a control character"),
        ({"field": "enrolment_date", "format": "dd\x9fMM"}, "it has a control character"),
        ({"field": "completion_date", "format": "dd/MM/yy"}, "A date format has yyyy, MM, dd, HH, mm, ss, SSS and signs"),
        ({"field": "total_score", "format": "dd"}, "format 'dd' does not fit total_score. The format may be points or percent"),
        (
            {"field": "user.state", "format": "last"},
            "The format may be first (the first entry of a JSON list) or excel_text (with an apostrophe, so that Excel reads ",
        ),
        ({"field": "batch_id", "format": "first"}, "does not fit batch_id. The format may be excel_text"),
        ({"field": "progress", "format": "percent"}, "format 'percent' does not fit progress. This field has no format"),
        ({"field": "progress", "lable": "x"}, "unknown setting layouts.mine.columns.1.lable; did you mean label?"),
        ({"field": "progress", "label": ""}, "layouts.mine.columns.1.label: String should have at least 1 character"),
        ({"field": "progress", "label": "State"}, "layouts.mine: two columns have the label 'State'"),
        *(
            (
                {"field": "progress", "label": label},
                f"column {label!r}: the label starts or ends with a blank, or ",
            )
            for label in ("State\x00", "State ", "\u3000State", "\x01", " ", "a\tb", "a\x9fb")
        ),
        *(
            (
                {"field": "progress", "label": label},
                f"column {label!r}: only labels of nested collections and ",
            )
            for label in ("do_quiz - Score", "Unit (do_1) - Progress")
        ),
        ({}, "layouts.mine.columns.1: column 'Mine': there is no field ''. There are collection_id, "),
    ],
)
def test_a_wrong_column_is_named_with_what_is_right(column: dict[str, Any], said: str) -> None:
    message = mistaken(**column)
    assert message.startswith("Variable progress_exhaust: ") and "layouts.mine" in message
    assert said in message


def test_the_only_column_with_a_mistake_is_reported_once() -> None:
    message = mistake(mine={"columns": [{"label": "Mine", "field": "user.email"}]})
    assert message == (
        "Variable progress_exhaust: layouts.mine.columns.0: column 'Mine': 'email' is a contact field, which is never read, or "
        "is not a name"
    )


@pytest.mark.parametrize("label", ["Score", "a - b", "- Score", "State – Score", "Progress"])
def test_a_label_may_be_any_other_text(label: str) -> None:
    mine = {"columns": [{"label": label, "field": "progress"}]}
    assert settings(mine=mine).layouts["mine"].columns[0].label == label


@pytest.mark.parametrize("pattern", ["dd.MM.yyyy", "yyyyMMdd", "HH:mm", "MM", "dd/MM HH:mm:ss", "dd\u00a0MM 年", STANDARD_DATE])
def test_a_date_may_be_written_in_many_ways(pattern: str) -> None:
    mine = {"columns": [{"label": "Mine", "field": "completion_date", "format": pattern}]}
    assert settings(mine=mine).layouts["mine"].columns[0].format == pattern


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({}, "layouts.mine.columns: Field required"),
        ({"columns": []}, "layouts.mine: columns: there must be at least one"),
        ({"columns": [COLUMN], "line_ends": "LF"}, "unknown setting layouts.mine.line_ends; did you mean line_end?"),
        ({"columns": [COLUMN], "line_end": "CR"}, "layouts.mine.line_end: Input should be 'CRLF' or 'LF'"),
        (
            {"columns": [COLUMN], "time_zone": "India"},
            "time_zone 'India' is not an IANA time zone, such as Asia/Kolkata, and not report",
        ),
        *(
            ({"columns": [COLUMN], "time_zone": name}, f"time_zone {name!r} is not an IANA time zone")
            for name in ("../etc", "", "Factory", "localtime", "posix/Asia/Kolkata", "right/Asia/Kolkata", "asia/kolkata")
        ),
        ({"like": "standart"}, "there is no built-in layout 'standart'. There are standard, sunbird-lern-7"),
        ({"like": ["standard"]}, "there is no built-in layout ['standard']"),
    ],
)
def test_a_wrong_layout_is_named_with_what_is_right(layout: dict[str, Any], said: str) -> None:
    assert said in mistake(mine=layout)


def test_an_unknown_layout_name_is_reported_with_the_known_names() -> None:
    mine = {"mine": {"columns": [COLUMN]}}
    assert "layout: there is no layout 'main'; there are standard, sunbird-lern-7, mine" in mistake("main", **mine)
    with pytest.raises(SetupError, match="there is no layout 'main'; there are standard, sunbird-lern-7, mine"):
        settings(**mine).layout_named("main")
    assert settings("mine", **mine).layout_named("mine").columns[0].label == "State"


def test_a_built_in_layout_is_not_changed_but_taken_as_a_base() -> None:
    assert "layouts: standard is a built-in layout. To extend it, choose another name and set like: standard" in mistake(
        standard={"columns": [COLUMN]}
    )
    assert "layouts.a b" in mistake(**{"a b": {"columns": [COLUMN]}})
    mine = settings("mine", mine={"like": "sunbird-lern-7", "quoting": "spark"}).layout_named("mine")
    assert mine == BUILT_IN["sunbird-lern-7"].model_copy(update={"quoting": "spark"})


def test_only_what_the_columns_show_is_read_of_the_user_cache() -> None:
    assert BUILT_IN["standard"].user_fields == ("firstname", "lastname", "state", "district")
    assert BUILT_IN["sunbird-lern-7"].user_fields == (
        "framework_board", "state", "orgname", "cluster", "usertype", "block", "schoolname", "usersubtype", "district",
        "schooludisecode",
    )  # fmt: skip
    twice = [COLUMN, {"label": "Again", "field": "user.state"}, {"label": "Name", "field": "user_name"}]
    assert Layout.model_validate({"columns": twice}).user_fields == ("state", "firstname", "lastname")


@pytest.mark.parametrize(
    "name",
    [
        "state", "firstname", "lastname", "district", "block", "cluster", "orgname", "rootorgid", "schoolname", "schooludisecode",
        "usertype", "usersubtype", "framework_board", "framework_medium", "framework_gradeLevel", "framework_subject", "status",
        "cancelled", "hostel", "excellence", "telugu", "graph", "phase", "lastlogintime", "mobility", "alternative", "wallet",
    ],
)  # fmt: skip
def test_other_fields_of_the_user_cache_may_be_shown(name: str) -> None:
    assert Layout.model_validate({"columns": [{"label": "It", "field": f"user.{name}"}]}).user_fields == (name,)


@pytest.mark.parametrize("name", ["UTC", "Asia/Kolkata", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "report"])
def test_a_time_zone_of_a_layout(name: str) -> None:
    assert Layout.model_validate({"like": "standard", "time_zone": name}).time_zone == name


def test_a_layout_goes_to_json_and_back() -> None:
    for layout in BUILT_IN.values():
        assert Layout.model_validate_json(layout.model_dump_json()) == layout
        assert not re.search("email|phone", layout.model_dump_json())


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"delimiter": ":"}, r"layouts.mine.delimiter: Input should be ',', ';', '\t' or '|'"),
        ({"delimiter": ";;"}, r"layouts.mine.delimiter: Input should be ',', ';', '\t' or '|'"),
        ({"decimal_sign": ";"}, "layouts.mine.decimal_sign: Input should be '.' or ','"),
        (
            {"decimal_sign": ","},
            "layouts.mine: decimal_sign ',' is also the delimiter. Set another delimiter, such as ';'",
        ),
        ({"enrolments": "inactive"}, "layouts.mine.enrolments: Input should be 'active' or 'all'"),
        ({"progress_precision": "float64"}, "layouts.mine.progress_precision: Input should be 'exact' or 'float32'"),
    ],
)
def test_a_wrong_dialect_is_named_with_what_is_right(layout: dict[str, Any], said: str) -> None:
    assert said in mistake(mine={"columns": [COLUMN]} | layout)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_delimiter_of_a_layout(delimiter: str) -> None:
    assert settings(mine={"columns": [COLUMN], "delimiter": delimiter}).layouts["mine"].delimiter == delimiter


@pytest.mark.parametrize("field", ["user_name", "batch_name", "progress", "total_score", "enrolment_date"])
def test_only_ids_and_fields_of_the_user_cache_have_excel_text(field: str) -> None:
    assert f"format 'excel_text' does not fit {field}" in mistaken(field=field, format="excel_text")
