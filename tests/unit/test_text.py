"""Cells as text: the specification's "File" and "Columns"."""

from decimal import Decimal

import pytest

from progress_exhaust.report import text


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Asha", "Asha"),
        ("a\tb\rc\nd", "a b c d"),
        ("a\r\nb", "a  b"),
        ("a\x00\x1b\x7f\x85b", "ab"),
        ("a\ud800b", "a\ufffdb"),
        ("முருகன் 🙂", "முருகன் 🙂"),
    ],
)
def test_control_characters_go_and_line_ends_become_a_space(raw: str, cleaned: str) -> None:
    assert text.clean(raw) == cleaned


@pytest.mark.parametrize(
    "formula", ["=1+1", "+A1", "-A1", "@SUM(A1)", "  =1", "\u00a0=1", "\ufeff=1", "＝1", "＋1", "－1", "＠a", "-", "-1 2"]
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(formula: str) -> None:
    assert text.defuse(formula) == "'" + formula


@pytest.mark.parametrize("plain", ["", "-5", "+12.50", " -3", "Asha=", "5-3", "'=1"])
def test_plain_numbers_and_other_text_are_left_alone(plain: str) -> None:
    assert text.defuse(plain) == plain


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (7.0, "7"), (7.5, "7.5"), (1 / 3, "0.3333"), (2.00005, "2.0001"), (0.00004, "0"), (-0.0, "0"), (-0.00001, "0"),
        (-1.5, "-1.5"), (1e21, "1" + "0" * 21), (1e308, "1" + "0" * 308), (Decimal("0.30"), "0.3"), (Decimal("1E+2"), "100"),
        (float("nan"), ""), (float("inf"), ""), (float("-inf"), ""), (None, ""),
    ],
)  # fmt: skip
def test_numbers_have_at_most_four_decimals_half_up_and_no_trailing_zeros(value: float | None, written: str) -> None:
    assert text.number(value) == written


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [
        (1598363154150, "2020-08-25 13:45:54:150+0000"),
        (0, "1970-01-01 00:00:00:000+0000"),
        (-1, "1969-12-31 23:59:59:999+0000"),
        (-62135596800000, "0001-01-01 00:00:00:000+0000"),
        (253402300799999, "9999-12-31 23:59:59:999+0000"),
        (10**17, ""),
    ],
)
def test_instants_are_written_in_utc_with_milliseconds_after_a_colon(milliseconds: int, written: str) -> None:
    assert text.timestamp(milliseconds) == written


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("2019-11-15 05:41:50:382+0000", "2019-11-15 05:41:50:382+0000"),
        ("2019-11-15T05:41:50.382+05:30", "2019-11-15 00:11:50:382+0000"),
        ("2019-11-15 05:41:50,382-0330", "2019-11-15 09:11:50:382+0000"),
        ("2019-11-15T05:41:50Z", "2019-11-15 05:41:50:000+0000"),
        ("2019-11-15", "2019-11-15 00:00:00:000+0000"),
        ("2019-02-29", "2019-02-29"),
        ("2019-11-15 25:00", "2019-11-15 25:00"),
        ("2019-11-15 05:41:50:382+0099", "2019-11-15 05:41:50:382+0099"),
        ("0001-01-01 00:00:00:000+0530", "0001-01-01 00:00:00:000+0530"),
        ("15/11/2019, noon", "15/11/2019, noon"),
    ],
)
def test_a_text_date_that_parses_is_written_in_utc_and_another_stays(raw: str, written: str) -> None:
    assert text.text_date(raw) == written
