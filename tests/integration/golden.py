"""The reports of the sample world as files, for a person to read and for a test to hold the product against.

python -m tests.integration.golden      writes them again from the oracle. Look at the difference before you commit it
"""

from pathlib import Path

from dev.world import Row, World, sample_world
from tests.integration.install import REPORT_DAY
from tests.oracle import expected_csv, expected_lern7_csv

FOLDER = Path(__file__).resolve().parents[1] / "golden"


def reports(world: World) -> dict[str, tuple[Row, str]]:
    """Name each report that the sample world's requests ask for: its request, and its batch id."""
    batches = [row["batchid"] for row in world.batches]
    asked = world.requests
    return {
        "literacy-batch1": (asked[0], batches[0]),
        "literacy-batch2": (asked[1], batches[1]),
        "teachers": (asked[1], batches[3]),
        "formula": (asked[2], batches[5]),
        "formula-no-learner-yet": (asked[2], batches[6]),
        "science-for-another-org": (asked[3], batches[2]),
    }


IN_LERN7 = ("literacy-batch1", "science-for-another-org")  # of these, for layout sunbird-lern-7


def main() -> None:
    world = sample_world()
    for name, (request, batch) in reports(world).items():
        made = {f"{name}.csv": expected_csv(world, request, batch, REPORT_DAY)}
        if name in IN_LERN7:
            made[f"{name}.sunbird-lern-7.csv"] = expected_lern7_csv(world, request, batch)
        for file_name, data in made.items():
            (FOLDER / file_name).write_bytes(data)
            print(f"{file_name}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
