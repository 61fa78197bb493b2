"""Maps and lists are counted from their bytes as they would be from objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progress_exhaust.hooks.cassandra.raw_values import completed_entry, count_completed, count_elements
from tests.cql import cql_list, cql_map

# Ids that look like the bytes around them are the hard ones.
CONTENT_IDS = st.one_of(
    st.text(max_size=30),
    st.text("\0\1\2\4a", max_size=12),
    st.text("a", min_size=250, max_size=260),
    st.sampled_from(["", "\2\0", "\0\0\0\4\0\0\0\2", "do_1", "do_1\0\0\0\4\0\0\0\2"]),
)
STATUSES = st.one_of(st.integers(0, 2), st.sampled_from([3, 4, 5, -1, 2**31 - 1, 0x04000000, 0x0200]))


@given(st.dictionaries(CONTENT_IDS, STATUSES, max_size=8), st.sets(CONTENT_IDS, max_size=3))
def test_completed_contents_are_counted_as_from_a_dict(statuses: dict[str, int], optional: set[str]) -> None:
    completed = sum(status == 2 for content_id, status in statuses.items() if content_id not in optional)
    assert count_completed(cql_map(statuses), [completed_entry(one) for one in optional]) == completed


@pytest.mark.parametrize("statuses", [None, b"", cql_map({})])
def test_without_statuses_no_content_is_completed(statuses: bytes | None) -> None:
    assert count_completed(statuses, []) == 0


def test_a_status_of_four_before_a_short_id_is_not_read_as_two() -> None:
    assert count_completed(cql_map({"do_1": 4, "ab": 1}), []) == 0


def test_the_number_of_entries_is_not_read_as_part_of_an_entry() -> None:
    """Four entries, the first with an id of two letters: together they look like a status."""
    assert count_completed(cql_map({"aa": 1, "ca": 0, "a": 2, "aaac": 3}), [completed_entry("a")]) == 0


def test_a_map_of_many_contents_is_counted() -> None:
    many = {f"do_{n}": n % 3 for n in range(300_000)}
    assert count_completed(cql_map(many), [completed_entry("do_2"), completed_entry("do_1")]) == 99_999
    assert count_completed(cql_map(many | {"do_odd": 7}), [completed_entry("do_2")]) == 99_999


@pytest.mark.parametrize(("certificates", "number"), [(None, 0), ([], 0), ([{"id": "1"}], 1), ([{}, {}], 2)])
def test_a_list_knows_its_size(certificates: list[dict[str, str]] | None, number: int) -> None:
    assert count_elements(cql_list(certificates)) == number
