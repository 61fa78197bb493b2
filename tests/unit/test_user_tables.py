"""Users from the tables of the platform: no contact column is read, and the fields are those of the user cache."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from dev.user_tables import organisation_rows, place_id, place_rows, user_rows
from dev.world import sample_world
from progress_exhaust.errors import SourceError
from progress_exhaust.hooks.cassandra.profiles import (
    COLUMNS_OF_FIELD,
    FRAMEWORK,
    ROWS_KEPT,
    RowsById,
    columns_of,
    place_ids,
    profile,
)
from progress_exhaust.report.layout import BUILT_IN, CONTACT
from progress_exhaust.sql import user_tables as cql

EVERY_FIELD = (*COLUMNS_OF_FIELD, f"{FRAMEWORK}board")
NO_ONE = dict.fromkeys(cql.USER_COLUMNS)


def one(fields: Sequence[str], places: Any = None, organisations: Any = None, **columns: Any) -> dict[str, str]:
    return profile(NO_ONE | columns, fields, places or {}, organisations or {})


def test_no_statement_reads_a_contact_column() -> None:
    templates = {name: text for name, text in vars(cql).items() if isinstance(text, str) and text.lstrip().startswith("SELECT")}
    assert len(templates) == 4
    users = [
        cql.USERS.replace("<columns>", ", ".join(columns_of(fields))) for fields in (EVERY_FIELD, ("email", "phone", "status"))
    ]
    for statement in (*templates.values(), *users):
        selected = re.split(r"\bFROM\b", statement)[0]
        assert "*" not in selected and not re.search(CONTACT.pattern, selected, re.IGNORECASE)
    assert {name for name in cql.USER_COLUMNS if re.search(CONTACT.pattern, name)} == set()


def test_only_the_columns_of_the_fields_are_read() -> None:
    assert columns_of(("state", "status")) == ["isdeleted", "profilelocation", "status"]
    assert columns_of(("gender",)) == []
    assert set(columns_of(EVERY_FIELD)) == cql.USER_COLUMNS.keys() - {"id"}


@pytest.mark.parametrize("layout", BUILT_IN.values(), ids=BUILT_IN)
def test_the_fields_of_the_cache_and_of_the_tables_are_equal(layout: Any) -> None:
    world = sample_world()
    places = {row["id"]: (row["id"], row["name"], row.get("code")) for row in place_rows(world.users)}
    organisations = {row["id"]: (row["id"], row["orgname"]) for row in organisation_rows(world.users)}
    rows = {row["id"]: row for row in user_rows(world.users)}
    fields = (*layout.user_fields, "rootorgid", "status")
    for user_id, cached in world.users:
        made = profile(NO_ONE | rows[user_id], fields, places, organisations)
        wanted = {field: cached[field] for field in fields if field in cached}
        if "rootorgid" not in cached or "orgname" not in cached:  # the tables have the name of each organisation, and no other
            made.pop("orgname", None), wanted.pop("orgname", None)
        assert made == wanted


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"status": 1, "isdeleted": True}, {"status": "1"}),
        ({"status": None, "isdeleted": True}, {"status": "2"}),
        ({"status": None, "isdeleted": None}, {}),
        ({"profileusertype": '{"type":"administrator","subType":"deo"}'}, {"usertype": "administrator", "usersubtype": "deo"}),
        ({"profileusertype": '{"type":"teacher"}', "profileusertypes": '[{"type":null}]'}, {"usertype": "teacher"}),
        ({"profileusertype": "{}", "profileusertypes": '[{"type":"teacher","subType":null}]'}, {"usertype": "teacher"}),
        (
            {
                "profileusertype": '{"type":"parent","subType":"guardian"}',
                "profileusertypes": '[{"type":"student","subType":"deo"},{"type":"teacher"},{"type":"student","subType":""}]',
            },
            {"usertype": "student,teacher", "usersubtype": "deo"},
        ),
        (
            {"profileusertypes": '[{"type":"a\\ud800","subType":"\\ud83d\\ude42"}]'},
            {"usertype": "a\ufffd", "usersubtype": "\U0001f642"},
        ),
        ({"profileusertypes": '[{"type":["teacher"]}]'}, {}),
        ({"profileusertypes": "[1, null"}, {}),
        ({"profileusertypes": '["teacher", 3]'}, {}),
        ({"framework": {"Board": ["CBSE", "हिन्दी"]}}, {"framework_board": '["CBSE","हिन्दी"]'}),
        ({"framework": {"board": []}}, {}),
    ],
)
def test_fields(columns: dict[str, Any], expected: dict[str, str]) -> None:
    assert one(EVERY_FIELD, **columns) == expected


def test_places_are_resolved_by_their_ids() -> None:
    text = json.dumps([{"type": "School", "id": "s"}, {"type": "state", "id": "unknown"}, {"type": "district"}, 7])
    places = {"s": ("s", "Govt. school", "0123"), "unknown": None}
    assert one(EVERY_FIELD, places, profilelocation=text) == {"schoolname": "Govt. school", "schooludisecode": "0123"}


@pytest.mark.parametrize("place", ["", "\ud800", "x" * 70_000, 5, None, ["a"]])
def test_ids_that_no_place_can_have_are_not_asked_for(place: Any) -> None:
    assert place_ids({"profilelocation": json.dumps([{"type": "state", "id": place}])}, ["state"]) == {}


@pytest.mark.parametrize("text", [None, "", "[", "3", '"state"', "[" * 100_000, "null"])
def test_a_bad_list_of_places_names_none(text: str | None) -> None:
    assert place_ids({"profilelocation": text}, ["state"]) == {}


def test_rows_are_read_once_and_the_memory_is_bounded() -> None:
    asked: list[list[str]] = []

    def read(ids: Sequence[str]) -> Iterable[tuple[str, str]]:
        asked.append(list(ids))
        if "fails" in ids:
            raise SourceError("no answer")
        return [(row, "name") for row in ids if row != "none"]

    rows = RowsById(read)
    assert rows.get(["a", "none"])["none"] is None
    assert rows.get(["a", "none", "b"])["a"] == ("a", "name")
    rows.get([])
    assert asked == [["a", "none"], ["b"]]
    for _ in range(2):  # a read that failed is done again
        with pytest.raises(SourceError):
            rows.get(["fails"])
    many = [f"{number:06}" for number in range(ROWS_KEPT)]
    assert len(rows.get(many)) == ROWS_KEPT
    assert rows.get([many[0]])[many[0]] == (many[0], "name")


def test_a_place_has_one_id() -> None:
    assert place_id("state", "Goa") != place_id("district", "Goa")
