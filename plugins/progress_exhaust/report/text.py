"""Write texts, numbers and dates as cells (specification, "File" and "Columns").

Arrow changes whole columns at once. What only Python can do exactly is done once for each different unusual value.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cache
from os.path import commonprefix

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report.layout import DATE_LETTERS

# Text that `clean` or `defuse` may change, as a pattern for RE2. This is a quick filter: most cells need no change.
SUSPECT = r"[\x{00}-\x{1f}\x{7f}-\x{9f}]|^[^\p{L}\p{N}]"

EXACT = Context(prec=400)  # decimal digits: enough for every digit of any score

_CONTROLS = {**dict.fromkeys((*range(32), *range(127, 160))), 0x09: " ", 0x0A: " ", 0x0D: " "}
_SURROGATES = re.compile("[\ud800-\udfff]")
_FORMULA = re.compile(r"[\s\ufeff\u200b]*[=+\-@＝＋－＠]")
_PLAIN_NUMBER = re.compile(r"[\s\ufeff\u200b]*[+-]?[0-9]+(\.[0-9]+)?")
_TEXT_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(?::(\d\d)(?::(\d{3})|[.,](\d{1,9}))?)?)?(Z|[+-]\d\d:?[0-5]\d)?", re.ASCII
)
# The form of almost all text dates, as a pattern for RE2. It matches only valid dates.
_USUAL_DATE = (
    r"^[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30))"
    r" (?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]:[0-9]{3}\+0000$"
)
_ISO = "yyyy-MM-dd HH:mm:ss.SSS"  # how Arrow writes milliseconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_INSTANT, _LAST_INSTANT = (
    (datetime.fromisoformat(f"{day}T{time}+00:00") - _EPOCH) // timedelta(milliseconds=1)
    for day, time in (("0001-01-01", "00:00"), ("9999-12-31", "23:59:59.999"))
)
_FOUR_DECIMALS = Decimal("0.0001")


def changed(cells: pa.Array, odd: str, change: Callable[[str], str]) -> pa.Array:
    """Apply a function to the cells that match the pattern `odd`. The function must not change other cells."""
    found = pc.match_substring_regex(cells, odd)
    if not pc.any(found).as_py():
        return cells
    values = cells.filter(found).dictionary_encode()
    results = pa.array([change(value) for value in values.dictionary.to_pylist()], pa.string())
    return pc.replace_with_mask(cells, found, results.take(values.indices))


def clean(text: str) -> str:
    """Drop control characters. Replace line ends and tabs by a space, lone surrogates by U+FFFD."""
    return _SURROGATES.sub("\ufffd", text).translate(_CONTROLS)


def defuse(text: str) -> str:
    """Add an apostrophe before text that a spreadsheet would run as a formula."""
    if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text):
        return "'" + text
    return text


def safe(text: str, defuse_formulas: bool) -> str:
    """Clean a text. Defuse it too, unless the setting is off."""
    return defuse(clean(text)) if defuse_formulas else clean(text)


def number(value: float | Decimal | None) -> str:
    """Write a number with at most 4 decimals, half up, without trailing zeros. Blank for None, NaN and infinities."""
    if value is None:
        return ""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not exact.is_finite():
        return ""
    rounded = format(exact.quantize(_FOUR_DECIMALS, ROUND_HALF_UP, EXACT), "f").rstrip("0").rstrip(".")
    return "0" if rounded in ("-0", "") else rounded


def dates(milliseconds: pa.Array, pattern: str, time_zone: str) -> pa.Array:
    """Write instants, in milliseconds since 1970, by a date pattern. Blank before the year 1 and after 9999."""
    local = _in_range(milliseconds)
    if time_zone != "UTC":
        zoned = local.cast(pa.timestamp("ms", time_zone))
        local = _in_range(pc.local_timestamp(zoned).cast(pa.int64()))
    iso = local.cast(pa.timestamp("ms")).cast(pa.string())
    pieces = [piece if isinstance(piece, str) else pc.utf8_slice_codeunits(iso, *piece) for piece in _pieces(pattern)]
    written = pc.binary_join_element_wise(*pieces, "")
    return pc.if_else(milliseconds.is_valid(), pc.coalesce(written, ""), pa.scalar(None, pa.string()))


def _in_range(milliseconds: pa.Array) -> pa.Array:
    within = pc.and_(pc.greater_equal(milliseconds, _FIRST_INSTANT), pc.less_equal(milliseconds, _LAST_INSTANT))
    return pc.if_else(within, milliseconds, pa.scalar(None, pa.int64()))


@cache
def _pieces(pattern: str) -> list[tuple[int, int] | str]:
    """Split a date pattern into slices (start, end) of Arrow's own form of a date, as long as possible, and signs."""
    found: list[tuple[int, int] | str] = []
    place = 0
    while place < len(pattern):
        letters = DATE_LETTERS.match(pattern, place)
        if letters:
            start = _ISO.index(letters[0])
            length = len(commonprefix([_ISO[start:], pattern[place:]]))  # noqa: RUF071 of text, not of paths
            found.append((start, start + length))
        else:
            length = 1
            found.append(pattern[place])
        place += length
    return found


def is_whole_date(pattern: str) -> bool:
    """Return whether a pattern has year, month and day."""
    return all(letters in pattern for letters in ("yyyy", "MM", "dd"))


def moment(text: str, pattern: str) -> datetime | None:
    """Read a date that `dates` wrote by this pattern. None for other text, and if the pattern is not a whole date."""
    if not is_whole_date(pattern):
        return None
    try:
        return datetime.strptime(text, directives(pattern))
    except ValueError:
        return None


@cache
def directives(pattern: str) -> str:
    """Return a date pattern in the form of `strptime`."""
    found = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S", "SSS": "%f"}
    return DATE_LETTERS.sub(lambda letters: found[letters[0]], pattern.replace("%", "%%"))


def instants(texts: pa.Array) -> pa.Array:
    """Read text dates as milliseconds since 1970. Null for texts that are not dates."""
    usual = pc.match_substring_regex(texts, _USUAL_DATE).fill_null(True)
    iso = pc.binary_join_element_wise(pc.utf8_slice_codeunits(texts, 0, 19), pc.utf8_slice_codeunits(texts, 20, 23), ".")
    read = pc.if_else(usual, iso, pa.scalar(None, pa.string())).cast(pa.timestamp("ms")).cast(pa.int64())
    unusual = pc.invert(usual)
    values = texts.filter(unusual).dictionary_encode()
    results = pa.array([instant(value) for value in values.dictionary.to_pylist()], pa.int64())
    return pc.replace_with_mask(read, unusual, results.take(values.indices))


def instant(text: str) -> int | None:
    """Read a text date as milliseconds since 1970. None if it is not a date from year 1 to year 9999 in UTC."""
    match = _TEXT_DATE.fullmatch(text)
    if not match:
        return None
    day, minute, second, milliseconds, fraction, zone = match.groups()
    iso = f"{day}T{minute or '00:00'}:{second or '00'}.{(milliseconds or fraction or '0').ljust(6, '0')[:6]}"
    iso += "+00:00" if zone in (None, "Z") else zone
    try:
        since = (datetime.fromisoformat(iso) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None
    return since if _FIRST_INSTANT <= since <= _LAST_INSTANT else None
