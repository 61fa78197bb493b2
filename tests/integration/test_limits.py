"""The limits of one org: batches above them wait for the next day, and finished batches are kept."""

import pytest

from dev.world import World, sample_world
from tests.integration.install import Install


@pytest.mark.parametrize("limit", ["batches_per_channel", "bytes_per_channel"])
def test_batches_above_a_limit_wait_and_the_next_day_makes_them(install: Install, queue: Install, limit: str) -> None:
    world = sample_world()
    request = world.requests[1]  # two batches
    install.load(World(**(world.__dict__ | {"requests": [request]})))

    done = install.run_dag(settings={limit: 1})
    assert (done.state, done.failed()) == ("success", [])
    row = install.row(request)
    assert (row["status"], row["iteration"], row["err_message"]) == ("SUBMITTED", 0, None)
    [first] = install.published()
    assert [entry["filePath"] for entry in row["processed_batches"]] == [first]
    assert install.staged() == []

    files = install.published()
    done = install.run_dag(settings={limit: 1})
    assert (done.state, done.says(": extract: ")) == ("success", False), "what does not fit is not made again"
    assert install.row(request)["status"] == "SUBMITTED" and install.published() == files, "the same day"

    assert install.run_dag(settings={limit: 1}, days_later=1).state == "success"
    row = install.row(request)
    assert (row["status"], len(row["download_urls"])) == ("SUCCESS", 2)
    assert sorted(row["download_urls"]) == sorted(install.published())
    assert install.published()[first] == files[first]


def test_what_the_limit_of_a_run_leaves_is_reported_without_a_scheduler(install: Install, queue: Install) -> None:
    world = sample_world()
    install.load(World(**(world.__dict__ | {"requests": [world.requests[1]]})))
    done = install.run_dag(settings={"batches_per_run": 1}, conf={"layout": "sunbird-lern-7"})
    assert done.says("left because of batches_per_run: start another run with the Params", "'layout': 'sunbird-lern-7'")
    done = install.run_dag(settings={"batches_per_run": 1})
    assert install.row(world.requests[1])["status"] == "SUCCESS"
    assert not done.says("left because of batches_per_run")


def test_only_requests_of_the_named_orgs_are_touched(install: Install, queue: Install) -> None:
    world = sample_world()
    install.load(world)
    before = install.rows()
    request = world.requests[3]
    org = request["requested_channel"]
    theirs = {key for key, row in before.items() if row["requested_channel"] == org}
    assert theirs and len(theirs) < len(before)

    assert install.run_dag(settings={"channels": [org]}).state == "success"
    after = install.rows()
    assert after[request["request_id"]]["status"] == "SUCCESS"
    assert {key: row for key, row in after.items() if key not in theirs} == {
        key: row for key, row in before.items() if key not in theirs
    }
