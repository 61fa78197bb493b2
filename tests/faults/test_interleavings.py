"""Clients meet in every order, statement by statement. `make test-interleavings` runs more of them."""

from collections.abc import Iterator

import pytest

from tests.interleavings.fences import FENCES, Fence
from tests.interleavings.run import Interleavings, interleavings
from tests.interleavings.scenarios import QUICK_STEPS, STEPS, pairs

SEEDS = range(40)


@pytest.fixture(scope="module")
def made(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interleavings]:
    with interleavings(tmp_path_factory.mktemp("interleavings"), "progress_exhaust_interleavings_of_tests") as made:
        yield made


@pytest.mark.parametrize("pair", pairs(QUICK_STEPS), ids=" and ".join)
def test_all_orders_of_two_clients_with_one_stop(made: Interleavings, pair: tuple[str, str]) -> None:
    for failure in made.all_orders(pair, bound=1):
        pytest.fail(str(failure))


@pytest.mark.slow
@pytest.mark.parametrize("pair", pairs(STEPS), ids=" and ".join)
def test_all_orders_of_two_clients_with_two_stops(made: Interleavings, pair: tuple[str, str]) -> None:
    for failure in made.all_orders(pair, bound=2):
        pytest.fail(str(failure))


def test_random_orders_of_two_to_four_clients(made: Interleavings) -> None:
    for seed in SEEDS:
        failure = made.random_order(seed)
        assert failure is None, str(failure)


def test_a_seed_gives_the_same_order_again(made: Interleavings) -> None:
    traces = []
    for _ in range(2):
        made.random_order(184)
        traces.append(made.trace)
    assert len(traces[0]) > 50 and traces[0] == traces[1]


@pytest.mark.parametrize("fence", [fence for fence in FENCES if fence.statement == "TAKE"], ids=str)
def test_search_finds_a_removed_fence(made: Interleavings, fence: Fence) -> None:
    failure, _ = made.find(fence, seeds=0, bound=1)
    assert failure is not None and "--order" in failure.replay


@pytest.mark.slow
@pytest.mark.parametrize("fence", FENCES, ids=str)
def test_search_finds_each_removed_fence(made: Interleavings, fence: Fence) -> None:
    failure, _ = made.find(fence, seeds=60, bound=1)
    assert failure is not None
