"""Another layout than `standard`, by Param and by setting, on real servers."""

import pytest

from dev.world import Row, World, sample_world
from tests.integration import golden
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import Options, expected_key, expected_lern7_csv

ASKED = golden.IN_LERN7


@pytest.fixture
def world(queue: Install) -> World:
    world = sample_world()
    requests = [request for request, _ in (golden.reports(world)[name] for name in ASKED)]
    queue.load(World(**(world.__dict__ | {"requests": requests})))
    return world


def csv(install: Install, world: World, name: str) -> bytes:
    return install.csv(expected_key(*golden.reports(world)[name], REPORT_DAY).removesuffix(".csv") + ".zip")


@pytest.mark.parametrize("strategy", ["partitions", "scan"])
def test_the_incumbents_layout_by_param(queue: Install, world: World, strategy: str) -> None:
    done = queue.run_dag({"layout": "sunbird-lern-7"}, settings={"learners_per_chunk": 40, "read_strategy": strategy})
    assert (done.state, done.failed()) == ("success", [])
    for name in ASKED:
        made = csv(queue, world, name)
        assert made == (golden.FOLDER / f"{name}.sunbird-lern-7.csv").read_bytes()
        assert made == expected_lern7_csv(world, *golden.reports(world)[name])


def test_a_layout_of_the_sites_own_by_setting(queue: Install, world: World) -> None:
    mine = {"like": "sunbird-lern-7", "quoting": "spark", "bom": True}
    assert queue.run_dag(settings={"layouts": {"mine": mine}, "layout": "mine"}).state == "success"
    for name in ASKED:
        request, batch = golden.reports(world)[name]
        assert csv(queue, world, name) == expected_lern7_csv(world, request, batch, options=Options(bom=True, spark=True))


@pytest.mark.parametrize("by_user", [False, True], ids=["partition", "scan"])
def test_inactive_enrolments_by_layout(queue: Install, world: World, by_user: bool) -> None:
    columns = [{"label": "Id", "field": "user_id"}, {"label": "Enrolment", "field": "enrolment_status"}]
    mine = {"columns": columns, "nested_progress": False, "scores": "none", "enrolments": "all"}
    table = {"enrolments_table": queue.names.enrolments_by_user} if by_user else {}
    done = queue.run_dag(settings={"layouts": {"mine": mine}, "layout": "mine", "learners_per_chunk": 40, **table})
    assert (done.state, done.failed()) == ("success", [])
    _, batch = golden.reports(world)["literacy-batch1"]
    rows = [
        row
        for row in world.enrolments
        if row["batchid"] == batch and (row.get("enrolled_date") or str(row.get("enrolleddate") or "").strip())
    ]
    expected = sorted((row["userid"], "active" if row.get("active") else "inactive") for row in rows)
    assert {status for _, status in expected} == {"active", "inactive"}
    made = csv(queue, world, "literacy-batch1").decode().splitlines()
    assert made == ["Id,Enrolment", *(f"{user},{status}" for user, status in expected)]


@pytest.mark.parametrize(
    ("conf", "settings", "words"),
    [
        ({"layout": "standart"}, {}, "there is no layout 'standart'; there are standard, sunbird-lern-7"),
        ({}, {"layout": "standart"}, "layout: there is no layout 'standart'; there are standard, sunbird-lern-7"),
        (
            {},
            {"layouts": {"mine": {"like": "sunbird-lern-7", "line_end": "CR"}}},
            "Variable progress_exhaust: layouts.mine.line_end: Input should be 'CRLF' or 'LF'",
        ),
        (
            {},
            {"layouts": {"mine": {"columns": [{"label": "Mail", "field": "user.email"}]}}, "layout": "mine"},
            "Variable progress_exhaust: layouts.mine.columns.0: column 'Mail': 'email' is a contact field",
        ),
    ],
    ids=["param", "setting", "key of a layout", "column"],
)
def test_a_layout_with_a_mistake_stops_the_run_before_anything_is_claimed_and_the_next_one_makes_all(
    queue: Install, world: World, conf: Row, settings: Row, words: str
) -> None:
    before = queue.rows()
    done = queue.run_dag(conf, settings=settings, retries=1)
    assert (done.state, done.failed()) == ("failed", ["wait_for_requests"])
    assert {task["tries"] for task in done.tasks if task["task_id"] == "wait_for_requests"} == {1}  # no retry
    assert done.says(words)
    assert queue.rows() == before

    assert queue.run_dag({"layout": "sunbird-lern-7"}).state == "success"
    assert all(csv(queue, world, name) == (golden.FOLDER / f"{name}.sunbird-lern-7.csv").read_bytes() for name in ASKED)
