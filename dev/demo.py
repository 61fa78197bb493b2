"""The demo: sample data in the services, one run of the DAG, and what each requester gets.

python dev/demo.py             the sample requests, the first time; whatever is pending, later
python dev/demo.py --submit    load the sample data, and submit its requests again, as new ones

Both load all the data first: the demo's Redis keeps nothing when it stops.
"""

import os
import sys
import zipfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/, where a folder is called cassandra: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import psycopg2

from dev import run_once, services
from dev.load import Places, load_part
from dev.world import JOB_ID, OTHER_ORG, World, sample_world

LINES_SHOWN = 6
NEVER_MET = (4, 5)  # of the sample world's requests: one without a batch, one for a retired collection
PASSWORD = "sample-password"  # noqa: S105  of nothing but sample data
POLICIES = {OTHER_ORG: {"policy": {"level": "PLAIN_DATASET", "job": {JOB_ID: {"level": "PASSWORD_PROTECTED_DATASET"}}}}}
REQUESTS = """
SELECT request_id, status, download_urls, err_message FROM job_request
WHERE job_id = 'progress-exhaust' ORDER BY dt_job_completed DESC NULLS FIRST, request_id LIMIT 12
"""


def main(arguments: list[str]) -> int:
    """Run the demo, or submit its requests again; return the exit status."""
    settings = services.Settings.from_environment()
    os.environ.update(services.environment())
    os.environ["PROGRESS_EXHAUST_DEV_CONTENT_DATA"] = str(settings.data / "content")
    places = Places.from_environment()
    with closing(psycopg2.connect(places.requests)) as pg:
        if arguments == ["--submit"]:
            world = demo_world(requested_at=datetime.now(UTC))
            load_part(places, world, 0, 1)
            print(f"{len(world.requests)} requests are submitted. The Airflow of `make up` makes them, or `make demo`")
            return 0
        print("Sample data: five collections, seven batches, all kinds of learner", flush=True)
        world = demo_world()
        known = fetch(pg, "SELECT request_id FROM job_request WHERE request_id = %s", [world.requests[0]["request_id"]])
        load_part(places, replace(world, requests=[] if known else world.requests), 0, 1)
        print("One run of the DAG:", flush=True)
        state, seconds = run_once.run({})
        print(f"The run ended: {state} after {seconds:.1f} s\n")
        show(fetch(pg, REQUESTS), settings.data / "reports")
    print("\nThe services go on: `make demo-data` submits new requests, `make up` starts Airflow, `make down` stops it all.")
    return 0 if state == "success" else 1


def demo_world(**options: Any) -> World:
    """Return the sample world, where one org wants its reports under a password.

    Two nights have passed for the requests that can never be met: no run tries them again after this one.
    """
    world = sample_world(**options)
    requests = [request | {"iteration": 2} if place in NEVER_MET else request for place, request in enumerate(world.requests)]
    keyed = [
        request | {"encryption_key": PASSWORD} if request["requested_channel"] == OTHER_ORG else request for request in requests
    ]
    return replace(world, requests=keyed, orgs=POLICIES)


def fetch(pg: Any, statement: str, values: list[str] | None = None) -> list[Any]:
    with pg, pg.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def show(requests: list[Any], container: Path) -> None:
    """Print each request's outcome, where its files are, and how one csv begins."""
    files = []
    for request_id, status, urls, message in requests:
        print(f"{request_id}  {status:<10} {message or ''}")
        for url in urls or ():
            files.append(container / url)
            print(f"    {files[-1]}")
    protected = [file for file in files if is_encrypted(file)]
    if protected:
        print(f"\nOne org's policy wants a password, which its requesters gave: 7z x -p{PASSWORD} {protected[0]}")
    if files := [file for file in files if file not in protected]:
        largest = max(files, key=lambda file: file.stat().st_size)
        with zipfile.ZipFile(largest) as package, package.open(package.namelist()[0]) as csv:
            print(f"\n{package.namelist()[0]} begins:")
            for line in csv.read().decode().splitlines()[:LINES_SHOWN]:
                print(f"    {line}")


def is_encrypted(file: Path) -> bool:
    with zipfile.ZipFile(file) as package:
        return bool(package.infolist()[0].flag_bits & 1)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (services.ServiceError, psycopg2.Error) as error:
        sys.exit(f"demo: {error}")
