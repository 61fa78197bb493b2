"""Cells as text: how text, numbers and dates are written (specification, "File" and "Columns")."""

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from math import isfinite

# Text that `clean` or `defuse` may change, as RE2 reads it: a quick filter, so that most cells are not looked at twice.
SUSPECT = r"[\x{00}-\x{1f}\x{7f}-\x{9f}]|^[^\p{L}\p{N}]"

DIGITS = 400  # decimal digits that hold any float to its last one

_CONTROLS = {**dict.fromkeys((*range(32), *range(127, 160))), 0x09: " ", 0x0A: " ", 0x0D: " "}
_SURROGATES = re.compile("[\ud800-\udfff]")
_FORMULA = re.compile(r"[\s\ufeff\u200b]*[=+\-@＝＋－＠]")
_PLAIN_NUMBER = re.compile(r"[\s\ufeff\u200b]*[+-]?[0-9]+(\.[0-9]+)?")
_TEXT_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(?::(\d\d)(?::(\d{3})|[.,](\d{1,9}))?)?)?(Z|[+-]\d\d:?[0-5]\d)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOUR_DECIMALS = Decimal("0.0001")


def clean(text: str) -> str:
    """Drop control characters, make line ends and tabs a space, lone surrogates U+FFFD."""
    return _SURROGATES.sub("\ufffd", text).translate(_CONTROLS)


def defuse(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text):
        return "'" + text
    return text


def number(value: float | Decimal | None) -> str:
    """Write a number with at most 4 decimals, half up, no trailing zeros; blank for none, NaN and infinities."""
    if value is None or not isfinite(value):
        return ""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    with localcontext(prec=DIGITS):
        rounded = format(exact.quantize(_FOUR_DECIMALS, ROUND_HALF_UP), "f").rstrip("0").rstrip(".")
    return "0" if rounded in ("-0", "") else rounded


def timestamp(milliseconds: int) -> str:
    """Write an instant, in milliseconds since 1970, as `2020-08-25 13:45:54:150+0000`."""
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:  # before the year 1 or after 9999: no date that a person entered
        return ""
    iso = moment.isoformat(sep=" ", timespec="milliseconds")
    return f"{iso[:19]}:{iso[20:23]}+0000"


def text_date(text: str) -> str:
    """Write a text date in the report's format, in UTC; one that does not parse stays as it stands."""
    match = _TEXT_DATE.fullmatch(text)
    if not match:
        return text
    day, minute, second, milliseconds, fraction, zone = match.groups()
    iso = f"{day}T{minute or '00:00'}:{second or '00'}.{(milliseconds or fraction or '0').ljust(6, '0')[:6]}"
    iso += "+00:00" if zone in (None, "Z") else zone
    try:
        since = datetime.fromisoformat(iso) - _EPOCH
    except (ValueError, OverflowError):
        return text
    return timestamp(since // timedelta(milliseconds=1)) or text
