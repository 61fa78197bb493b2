"""Maps and lists are counted from their bytes as they would be from objects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progress_exhaust.hooks.cassandra.raw_values import (
    ContentKeys,
    count_completed,
    count_elements,
)
from tests.cql import cql_list, cql_map

# Ids that look like the bytes around them are the hard ones.
CONTENT_IDS = st.one_of(
    st.text(max_size=30),
    st.text("\0\1\2\4a", max_size=12),
    st.text("a", min_size=250, max_size=260),
    st.sampled_from(["", "\2\0", "\0\0\0\4\0\0\0\2", "do_1", "do_1\0\0\0\4\0\0\0\2"]),
)
STATUSES = st.one_of(st.integers(0, 2), st.sampled_from([3, 4, 5, -1, 2**31 - 1, 0x04000000, 0x0200]))


@given(st.data(), st.dictionaries(CONTENT_IDS, STATUSES, max_size=8))
def test_completed_contents_are_counted_as_from_a_dict(data: st.DataObject, statuses: dict[str, int]) -> None:
    some = st.sets(st.sampled_from(sorted(statuses)) | CONTENT_IDS if statuses else CONTENT_IDS, max_size=6)
    in_tree, optional, assessments = data.draw(some), data.draw(some), data.draw(some)
    completed = {content_id for content_id, status in statuses.items() if status == 2} - optional
    found = count_completed(cql_map(statuses), ContentKeys.of(in_tree, optional, assessments))
    assert found.assessments == sum(statuses.get(one) == 2 for one in assessments)
    assert found[:2] == (len(completed & in_tree), len(completed - in_tree))


@pytest.mark.parametrize("statuses", [None, b"", cql_map({})])
def test_without_statuses_no_content_is_completed(statuses: bytes | None) -> None:
    assert count_completed(statuses, ContentKeys.of(["do_1"], [])) == (0, 0, 0)


def test_a_status_of_four_before_a_short_id_is_not_read_as_two() -> None:
    assert count_completed(cql_map({"do_1": 4, "ab": 1}), ContentKeys.of([], [])) == (0, 0, 0)


def test_the_number_of_entries_is_not_read_as_part_of_an_entry() -> None:
    """Four entries, the first with an id of two letters: together they look like a status."""
    assert count_completed(cql_map({"aa": 1, "ca": 0, "a": 2, "aaac": 3}), ContentKeys.of(["ca"], ["a"])) == (0, 0, 0)


def test_a_nul_in_one_id_is_not_taken_for_one_in_the_length_of_another() -> None:
    """The length 257 has one zero byte less than those of other ids."""
    assert count_completed(cql_map({"\0": 2, "a" * 257: 0}), ContentKeys.of(["\0"], [], ["\0"])) == (1, 0, 1)


@pytest.mark.parametrize("odd", [{}, {"do_odd": 7}])
def test_an_id_that_is_not_utf_8_is_unknown(odd: dict[str, int]) -> None:
    statuses = cql_map({"do_1": 2, "do_?": 2} | odd)
    assert statuses
    assert count_completed(statuses.replace(b"?", b"\xff"), ContentKeys.of(["do_1", "do_?"], [])) == (1, 1, 0)


def test_a_map_of_many_contents_is_counted() -> None:
    many = {f"do_{n}": n % 3 for n in range(300_000)}
    contents = ContentKeys.of(many, ["do_2", "do_1"])
    assert count_completed(cql_map(many), contents) == (99_999, 0, 0)
    assert count_completed(cql_map(many | {"do_odd": 7, "do_more": 2}), contents) == (99_999, 1, 0)
    few = dict(list(many.items())[:3000])
    assert count_completed(cql_map(few | {"do_more": 2}), contents) == (999, 1, 0)


@pytest.mark.parametrize(("certificates", "number"), [(None, 0), ([], 0), ([{"id": "1"}], 1), ([{}, {}], 2)])
def test_a_list_knows_its_size(certificates: list[dict[str, str]] | None, number: int) -> None:
    assert count_elements(cql_list(certificates)) == number
