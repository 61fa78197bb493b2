"""The specification's "File", on text, numbers and dates: one rule a table."""

from decimal import Decimal
from zoneinfo import available_timezones

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from progress_exhaust.report.layout import STANDARD_DATE, is_time_zone
from progress_exhaust.report.text import SUSPECT, clean, dates, defuse, instants, number

IST = "Asia/Kolkata"  # five and a half hours before UTC
LONGEST = 1.7976931348623157e308


@pytest.mark.parametrize("code", [*range(9), 11, 12, *range(14, 32), *range(127, 160)])
def test_control_characters_are_dropped(code: int) -> None:
    assert clean(f"a{chr(code)}b") == "ab"


@pytest.mark.parametrize("character", "\r\n\t")
def test_line_ends_and_tabs_become_one_space_each(character: str) -> None:
    assert clean(f"a{character}{character}b") == "a  b"


@pytest.mark.parametrize("code", [0xD800, 0xDBFF, 0xDC00, 0xDFFF])
def test_lone_surrogates_become_the_replacement_character(code: int) -> None:
    assert clean(f"a{chr(code)}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "value", ["", " ", "வணக்கம்", "न\u200dम", "é e\u0301", "👩🏽\u200d🏫", "\u2028", "\u00a0", "\u200b", "\ufeff", "𑒧", '",;|\\']
)
def test_other_text_stays_as_it_is(value: str) -> None:
    assert clean(value) == value


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
@pytest.mark.parametrize("blanks", ["", " ", "\u00a0", "\u3000", "\ufeff", "\u200b", " \u200b\u00a0"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(first: str, blanks: str) -> None:
    assert defuse(f"{blanks}{first}SUM(A1)") == f"'{blanks}{first}SUM(A1)"


@pytest.mark.parametrize("value", ["-5", "+12.50", " -3", "-0", "\u200b+7.0001"])
def test_a_plain_number_is_not_a_formula(value: str) -> None:
    assert defuse(value) == value


@pytest.mark.parametrize("value", ["-1 2", "+1e5", "-5.", "-.5", "--5", "+", "-५", "＋5", "+91 98765 43210", "-1-1", "-1\u00a0"])
def test_what_only_resembles_a_number_is_defused(value: str) -> None:
    assert defuse(value) == "'" + value


@pytest.mark.parametrize("value", ["", "a=1", "'=1", "1-2", "5", "Asha -", "#REF!", "|cmd", "é", "न"])
def test_other_text_is_not_defused(value: str) -> None:
    assert defuse(value) == value


@pytest.mark.parametrize(
    "value", ["=1", "\x00=1", " =1", "\u200b@x", "＠", "a\tb", "a\x85b", "\u00a0-x", "\x1b[31m", "ab\x7f", "\u0301=", "−"]
)
def test_the_quick_filter_lets_nothing_pass_that_a_rule_changes(value: str) -> None:
    assert pc.match_substring_regex(pa.array([value]), SUSPECT).to_pylist() == [True]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7.0, "7"), (7.5, "7.5"), (100.0, "100"), (0.0, "0"), (-0.0, "0"), (-1.5, "-1.5"), (1 / 3, "0.3333"),
        (2 / 3, "0.6667"), (2.00005, "2.0001"), (2.00015, "2.0002"), (-2.00005, "-2.0001"), (0.00004, "0"),
        (-0.00001, "0"), (0.1 + 0.2, "0.3"), (1e21, "1" + "0" * 21), (1e-300, "0"), (12345678.90625, "12345678.9063"),
        (7, "7"), (Decimal("7.10"), "7.1"), (Decimal("-0.00005"), "-0.0001"), (Decimal("1E+3"), "1000"),
    ],
)  # fmt: skip
def test_numbers_have_at_most_four_decimals_half_up_and_no_trailing_zeros(value: float | Decimal, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), Decimal("NaN")])
def test_no_number_is_blank(value: float | Decimal | None) -> None:
    assert number(value) == ""


def test_the_greatest_number_is_written_out() -> None:
    assert number(LONGEST) == "17976931348623157" + "0" * 292
    assert number(Decimal(10) ** 309) == "1" + "0" * 309  # a sum of such, which no double holds


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (1598363154150, "2020-08-25 13:45:54:150+0000"),
        (0, "1970-01-01 00:00:00:000+0000"),
        (-1, "1969-12-31 23:59:59:999+0000"),
        (-62135596800000, "0001-01-01 00:00:00:000+0000"),
        (253402300799999, "9999-12-31 23:59:59:999+0000"),
        (253402300800000, ""),
        (-(2**63), ""),
        (2**63 - 1, ""),
    ],
)
def test_an_instant_is_written_in_utc_with_milliseconds(milliseconds: int, shown: str) -> None:
    assert dates(pa.array([milliseconds, None]), STANDARD_DATE, "UTC").to_pylist() == [shown, None]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2019-11-15 05:41:50:382+0000", "2019-11-15 05:41:50:382+0000"),
        ("2019-11-15T23:41:50.382+05:30", "2019-11-15 18:11:50:382+0000"),
        ("2019-11-15 00:30:00,001+0530", "2019-11-14 19:00:00:001+0000"),
        ("2019-12-31 23:30:00.5-0330", "2020-01-01 03:00:00:500+0000"),
        ("2019-11-15T05:41:50.382999Z", "2019-11-15 05:41:50:382+0000"),
        ("2019-11-15T05:41:50Z", "2019-11-15 05:41:50:000+0000"),
        ("2019-11-15 05:41", "2019-11-15 05:41:00:000+0000"),
        ("2020-02-29", "2020-02-29 00:00:00:000+0000"),
    ],
)
def test_a_text_date_is_written_in_utc(value: str, shown: str) -> None:
    assert dates(instants(pa.array([value, None])), STANDARD_DATE, "UTC").to_pylist() == [shown, None]


@pytest.mark.parametrize(
    "value",
    [
        "", "null", "15/11/2019", "2019-02-29", "2019-13-01", "2019-11-15 24:00", "2019-11-15 05:60", "2019-11-15 5:41",
        "2019-11-15 05:41:50:38+0000", "2019-11-15 05:41:50:3821+0000", "2019-11-15 05:41+0060", "2019-11-15 05:41+2400",
        " 2019-11-15", "2019-11-15\n", "2019-11-15 ", "20191115", "२०१९-११-१५", "0001-01-01 00:00+0530",
        "9999-12-31 23:59-0530", "2019-11-15T05:41:50.3820000001Z", "0000-01-01",
    ],
)  # fmt: skip
def test_text_that_is_not_a_date(value: str) -> None:
    assert instants(pa.array([value, None, "1970-01-01"])).to_pylist() == [None, None, 0]


@pytest.mark.parametrize(
    ("pattern", "zone", "shown"),
    [
        ("dd/MM/yyyy", "UTC", "25/08/2020"),
        ("dd/MM/yyyy", IST, "26/08/2020"),
        ("yyyy-MM-dd HH:mm:ss.SSS", IST, "2020-08-26 00:30:54.150"),
        ("yyyyMMdd", "America/New_York", "20200825"),
        ("HHmm, SSS dd-MM", "UTC", "1900, 150 25-08"),
        ("ssSSSyyyy", "UTC", "541502020"),
        ("MM/yyyy yyyy", "UTC", "08/2020 2020"),
        ("தேதி: dd", "UTC", "தேதி: 25"),
        ("yyyy-MM-ddHH:mm", "UTC", "2020-08-2519:00"),
    ],
)
def test_a_date_is_written_by_the_layouts_pattern_and_zone(pattern: str, zone: str, shown: str) -> None:
    assert dates(pa.array([1598382054150, None]), pattern, zone).to_pylist() == [shown, None]


def test_a_date_may_be_in_any_zone_that_the_settings_take() -> None:
    for zone in filter(is_time_zone, available_timezones()):
        assert len(dates(pa.array([1598382054150]), "dd/MM/yyyy", zone)[0].as_py()) == 10, zone


@pytest.mark.parametrize(("last", "shown"), [(0, ""), (-5 * 3600_000, ""), (-6 * 3600_000, "31/12/9999"), (2**62, "")])
def test_no_zone_shifts_a_date_beyond_the_years(last: int, shown: str) -> None:
    assert dates(pa.array([253402300799999 + last]), "dd/MM/yyyy", IST).to_pylist() == [shown]


def test_a_usual_date_is_read_as_any_other_is() -> None:
    """The quick way takes only what the exact one would read the same; the day may be any of 1 to 31."""
    days = [f"{year}-{month:02}-{day:02}" for year in (1899, 2019, 2020, 2100) for month in range(14) for day in range(33)]
    usual, unusual = (pa.array([f"{day} 23:59:59{mark}007+0000" for day in days]) for mark in ":.")
    assert instants(usual).to_pylist() == instants(unusual).to_pylist()
    assert instants(usual).null_count == len(days) - (365 * 3 + 366)


def test_arrow_trims_what_python_strips() -> None:
    characters = [clean(chr(code)) for code in range(0x110000)]
    around = pa.array([f"{character}a{character}" for character in characters])
    assert pc.utf8_trim_whitespace(around).to_pylist() == [text.strip() for text in around.to_pylist()]
