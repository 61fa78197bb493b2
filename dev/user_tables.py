"""The users of a world as Sunbird's own tables have them, in place of the hashes of the user cache."""

import json
from collections.abc import Iterable, Iterator, Mapping
from uuid import NAMESPACE_URL, uuid5

from dev.world import Row, User

PLACES = ("state", "district", "block", "cluster")


def user_rows(users: Iterable[User]) -> Iterator[Row]:
    """Yield the rows of `user`. A user without fields is one that the platform lacks."""
    for user_id, fields in users:
        if fields:
            places = [{"type": place, "id": place_id(place, fields[place])} for place in PLACES if place in fields]
            status = fields.get("status")
            yield {
                "id": user_id, "firstname": fields.get("firstname"), "lastname": fields.get("lastname"),
                "rootorgid": fields.get("rootorgid"), "status": int(status) if status else None,
                "isdeleted": status == "2" if status else None, "profilelocation": json.dumps(places),
                "profileusertypes": json.dumps([{"type": fields.get("usertype"), "subType": fields.get("usersubtype")}]),
                "framework": {"board": json.loads(fields["framework_board"])} if "framework_board" in fields else None,
                "email": fields.get("email"), "phone": fields.get("phone"),
            }  # fmt: skip


def place_rows(users: Iterable[User]) -> list[Row]:
    """Return the rows of `location` that the users name."""
    named = {(place, fields[place]) for _, fields in users for place in PLACES if place in fields}
    return [{"id": place_id(place, name), "name": name, "type": place} for place, name in sorted(named)]


def organisation_rows(users: Iterable[User]) -> list[Row]:
    """Return the rows of `organisation` that the users name."""
    named = {fields["rootorgid"]: fields["orgname"] for _, fields in users if {"rootorgid", "orgname"} <= fields.keys()}
    return [{"id": org, "orgname": name, "isrootorg": True} for org, name in sorted(named.items())]


def relation_rows(optional_nodes: Mapping[str, set[str]]) -> list[Row]:
    """Return the rows of `hierarchy_relations`."""
    return [
        {"relationship_key": f"{course}:{course}:optionalnodes", "node_ids": sorted(contents)}
        for course, contents in optional_nodes.items()
    ]


def place_id(place: str, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{place}/{name}"))
