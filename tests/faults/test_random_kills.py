"""A few of the kills of `make test-kills`."""

from tests.faults.kills import TASK_KINDS, disturb, moments
from tests.servers.site import Site

KILLS, SEED = 5, 7


def test_a_few_random_kills(site: Site) -> None:
    """Of tasks alone, which Airflow starts again by itself in a second."""
    kills = disturb(site, moments(KILLS, SEED, TASK_KINDS | {"worker": 0}), SEED)
    assert kills.check().words() == []
    assert kills.hits.total() == KILLS
