"""From rows of Sunbird's tables to the fields of users. This module imports no driver.

The fields have the names and the values that the job of the platform gives them in the user cache.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from progress_exhaust.hooks.cassandra.models import MAX_KEY_BYTES, Row
from progress_exhaust.report.eligibility import DELETED

ROWS_KEPT = 50_000  # places, and organisations, that a process keeps in memory
FRAMEWORK = "framework_"  # prefix of the fields that come from the map `framework`
# The type of place in profilelocation, and the column of `location`.
PLACES = {
    "state": ("state", "name"),
    "district": ("district", "name"),
    "block": ("block", "name"),
    "cluster": ("cluster", "name"),
    "schoolname": ("school", "name"),
    "schooludisecode": ("school", "code"),
}
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can name one, and UTF-8 has none
USER_TYPES = {"usertype": "type", "usersubtype": "subType"}  # the key in profileusertype and profileusertypes
# The columns of `user` that a field is made from.
COLUMNS_OF_FIELD = {
    "firstname": ("firstname",),
    "lastname": ("lastname",),
    "rootorgid": ("rootorgid",),
    "orgname": ("rootorgid",),
    "status": ("status", "isdeleted"),
    **dict.fromkeys(USER_TYPES, ("profileusertype", "profileusertypes")),
    **dict.fromkeys(PLACES, ("profilelocation",)),
}


class RowsById:
    """Rows of a small table, which are read when they are first needed. The memory for them is bounded.

    :param read: reads the rows of these ids; the first column is the id
    """

    def __init__(self, read: Callable[[Sequence[str]], Iterable[Row]]) -> None:
        self._read_rows = read
        self._rows: dict[str, Row | None] = {}

    def get(self, ids: Iterable[str]) -> Mapping[str, Row | None]:
        """Return the rows with these ids, and perhaps others, by id; None if the table does not have it."""
        wanted = set(ids)
        if len(self._rows.keys() | wanted) > ROWS_KEPT:
            self._rows.clear()
        unknown = sorted(wanted - self._rows.keys())
        if unknown:
            found = {row[0]: row for row in self._read_rows(unknown)}  # a read that fails stores nothing
            self._rows.update(dict.fromkeys(unknown) | found)
        return self._rows


def columns_of(fields: Iterable[str]) -> list[str]:
    """Return the columns of `user` that these fields are made from."""
    needed = {column for field in fields for column in COLUMNS_OF_FIELD.get(field, ())}
    if any(field.startswith(FRAMEWORK) for field in fields):
        needed.add("framework")
    return sorted(needed)


def profile(
    user: Mapping[str, Any], fields: Iterable[str], places: Mapping[str, Row | None], organisations: Mapping[str, Row | None]
) -> dict[str, str]:
    """Return the fields of one user, without those that the tables do not have.

    :param user: columns of `user`
    :param places: rows of `location` (id, name, code)
    :param organisations: rows of `organisation` (id, name)
    """
    place_of_type = place_ids(user, fields)
    made = {field: _field(field, user, place_of_type, places, organisations) for field in fields}
    return {field: value for field, value in made.items() if value is not None}


def place_ids(user: Mapping[str, Any], fields: Iterable[str]) -> dict[str, str]:
    """Return the ids of the places that these fields name, by the type of place."""
    types = {PLACES[field][0] for field in fields if field in PLACES}
    if not types:
        return {}
    entries = ((str(one.get("type")).lower(), one.get("id")) for one in _entries(user["profilelocation"]))
    return {kind: place for kind, place in entries if kind in types and isinstance(place, str) and is_key(place)}


def _field(
    field: str,
    user: Mapping[str, Any],
    place_of_type: Mapping[str, str],
    places: Mapping[str, Row | None],
    organisations: Mapping[str, Row | None],
) -> str | None:
    if field in PLACES:
        kind, column = PLACES[field]
        place = places.get(place_of_type.get(kind, ""))
        return place[("name", "code").index(column) + 1] if place else None
    if field in USER_TYPES:
        # The platform's job joins the values of profileusertypes, and reads profileusertype no longer.
        entries = [one for one in _entries(user["profileusertypes"]) if any(one.values())] or _entries(user["profileusertype"])
        values = dict.fromkeys(one.get(USER_TYPES[field]) for one in entries if isinstance(one.get(USER_TYPES[field]), str))
        return SURROGATE.sub("\ufffd", ",".join(filter(None, values))) or None
    if field == "orgname":
        organisation = organisations.get(user["rootorgid"] or "")
        return organisation[1] if organisation else None
    if field == "status":
        if user["status"] is None:
            return DELETED if user["isdeleted"] else None
        return str(user["status"])
    if field.startswith(FRAMEWORK):
        chosen = {key.lower(): values for key, values in (user["framework"] or {}).items()}.get(
            field.removeprefix(FRAMEWORK).lower()
        )
        return json.dumps(list(chosen), ensure_ascii=False, separators=(",", ":")) if chosen else None
    value: str | None = user[field] if field in COLUMNS_OF_FIELD else None
    return value


def _entries(text: str | None) -> list[dict[str, Any]]:
    """Return the objects of a JSON list or the one object; nothing for text of another form."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def is_key(text: str) -> bool:
    """Return whether a partition can have this key."""
    try:
        return 0 < len(text.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:  # half a character
        return False
