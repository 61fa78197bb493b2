"""The page "Progress exhaust" over requests as a site has them after a month: to look at, and the pictures of the docs.

    python dev/page_pictures.py serve [N] | pictures

Postgres and Airflow's API server alone are started, in a folder of their own, and N requests are written straight into
job_request, the ledger and Airflow's list of runs. No service makes them, and no learner is in them.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.extras

if __name__ == "__main__":
    # Run as a file, Python looks for modules in dev/, where a folder is called cassandra: look in the project instead.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "plugins"))

from dev.airflow_servers import AIRFLOW
from dev.grants import GRANTS, psql
from dev.machine import install_chromium, is_free
from dev.servers import Postgres, Settings
from progress_exhaust.hooks.requests.models import SQL_VALUES
from progress_exhaust.security.levels import Level
from progress_exhaust.sql.connection import RESET_SEARCH_PATH
from progress_exhaust.sql.ledger import CREATE_LEDGER

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROJECT = Path(__file__).resolve().parent.parent
IMAGES = PROJECT / "docs" / "images"
PASSWORDS = {"admin": "admin", "viewer": "viewer"}
STAGES = {"fetch_hierarchy": 0.4, "extract": 30, "pivot": 4, "package": 2, "mark_complete": 0.1}  # seconds of 50,000 learners
CHANNELS = ("0126825293972439041", "01269878797503692810", "0127027302484623361")
COURSES = (
    "Foundational Literacy for Grade 3", "NISHTHA 3.0: Early Numeracy", "Maths for Grade 8", "School Leadership and Management",
    "Inclusive Classrooms", "Digital Initiatives in Teaching",
)  # fmt: skip
ERRORS = (
    "Batch {batch}: the collection {collection} is retired: its report can no longer be made",
    "Batch {batch} could not be made this time. The next run tries again, up to three times in all",
    "The request names no batch: batchFilter is empty",
)
# In the API server's own database: a run that is shown as one has to exist there.
ADD_RUNS = """
import json, sys
from datetime import datetime
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType
with create_session() as session:
    for run_id, state, at in json.load(sys.stdin):
        at = datetime.fromisoformat(at)
        session.add(DagRun(
            dag_id="progress_exhaust", run_id=run_id, run_type=DagRunType.SCHEDULED, state=state, run_after=at, logical_date=at,
            start_date=at, triggered_by=DagRunTriggeredByType.TIMETABLE))
"""


def sample(uri: str, number: int) -> list[tuple[str, str, str]]:
    """Write that many requests of the last 30 nights; return the runs: id, state and time."""
    chance = random.Random(7)
    now = datetime.now(UTC).replace(microsecond=0)
    requests, claims, batches = [], [], []
    runs = {}
    for place in range(number):
        age = timedelta(minutes=35 * 24 * 60 * (place / number) ** 1.3 / 1.2 + 3)
        at = now - age
        request_id = f"{chance.getrandbits(128):032X}"
        channel = chance.choice(CHANNELS)
        kind = chance.random()
        status = (
            "SUBMITTED" if place in (1, 2) else "PROCESSING" if place in (0, 3, 4) else "FAILED" if kind < 0.07 else "SUCCESS"
        )
        took = timedelta(minutes=chance.randint(2, 50))
        ids = [f"01{chance.randrange(10**17, 10**18)}" for _ in range(chance.choice((1, 1, 2, 2, 3)))]
        collection = f"do_21{chance.randrange(10**18, 10**19)}"
        course = COURSES[place % len(COURSES)]
        words = chance.choice(ERRORS) if status == "FAILED" else None
        requests.append((
            f"progress-{place:04}:{channel}", request_id, "progress-exhaust", status,
            json.dumps({"batchFilter": ids}), "", channel, at.replace(tzinfo=None),
            (at + took).replace(tzinfo=None) if status in ("SUCCESS", "FAILED") else None,
            words and words.format(batch=ids[0], collection=collection), 1 if status == "FAILED" else 0,
        ))  # fmt: skip
        if status == "SUBMITTED":
            continue
        day = at.replace(hour=8, minute=0, second=0, microsecond=0)
        if status == "PROCESSING":
            day = now - timedelta(minutes=2)
        run_id = f"scheduled__{day.isoformat()}"
        runs[run_id] = ("running" if status == "PROCESSING" else "success", day.isoformat())
        claims.append((
            f"progress-{place:04}:{channel}", request_id, run_id, at,
            None if status == "PROCESSING" else at + took, None if status == "PROCESSING" else status,
        ))  # fmt: skip
        for number_in, batch_id in enumerate(ids):
            enrolled = int(chance.lognormvariate(8.5, 1.5)) + 20
            left_out = {"excluded.inactive": enrolled // 50, "excluded.other_org": chance.choice((0, 0, enrolled // 9))}
            counts = {"enrolled": enrolled, "missing": enrolled // 200, **left_out, "reported": enrolled - sum(left_out.values())}
            seconds = {
                stage: round(cost * (0.02 + enrolled / 50_000) * chance.uniform(0.8, 1.2), 3) for stage, cost in STAGES.items()
            }
            stage, state, error = "mark_complete", "done", None
            if status == "PROCESSING" and number_in == 0:
                enrolled = 412_360 - place
                done = chance.randint(100_000, 380_000)
                counts = {"enrolled": enrolled, "learners_done": done, "percent": 100 * done // enrolled}
                counts["seconds_left"] = (enrolled - done) // 200
                stage, state, seconds = "extract", "running", {"fetch_hierarchy": seconds["fetch_hierarchy"]}
            elif status == "PROCESSING":
                stage, state, seconds, counts = "list_batches", "waiting", {}, {}
            elif status == "FAILED" and number_in == 0:
                stage, state, seconds, counts = "extract", "failed", {"fetch_hierarchy": seconds["fetch_hierarchy"]}, {}
                error = "Cassandra at 10.1.4.20:9042: no answer to 4 tries of 60 s each"
            key = f"progress-exhaust/{request_id}/{batch_id}_progress_{at:%Y%m%d}.zip" if state == "done" else None
            batches.append((
                f"progress-{place:04}:{channel}", request_id, batch_id, run_id, collection, channel, stage, state,
                json.dumps(counts), json.dumps(seconds), enrolled * 70 if key else None, key, error, at, now, course,
                f"{at:%B} {at.year}, group {number_in + 1}",
                key and sha256(key.encode()).hexdigest(), key and Level.TEXT_KEY.value,
            ))  # fmt: skip
    with closing(psycopg2.connect(uri)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS progress_exhaust CASCADE; DROP TABLE IF EXISTS job_request")
        cursor.execute(psql((GRANTS / "job_request.sql").read_text()))
        cursor.execute(CREATE_LEDGER.format(ledger="progress_exhaust", **SQL_VALUES))
        cursor.execute(RESET_SEARCH_PATH)
        insert = psycopg2.extras.execute_values
        insert(
            cursor,
            "INSERT INTO job_request (tag, request_id, job_id, status, request_data, requested_by, requested_channel, "
            "dt_job_submitted, dt_job_completed, err_message, iteration) VALUES %s",
            requests,
        )
        insert(
            cursor,
            "INSERT INTO progress_exhaust.claim (tag, request_id, run_id, claimed_at, released_at, outcome) VALUES %s",
            claims,
        )
        insert(
            cursor,
            "INSERT INTO progress_exhaust.batch_run (tag, request_id, batch_id, run_id, collection_id, channel, stage, state, "
            "counts, seconds, size_bytes, object_key, error, listed_at, changed_at, collection_name, "
            "batch_name, sha256, protection_level) VALUES %s",
            batches,
        )
        cursor.execute("ANALYZE")
    return [(run_id, state, at) for run_id, (state, at) in runs.items()]


@contextmanager
def served(number: int) -> Iterator[str]:
    """Serve the page over so many requests; give Airflow's address."""
    with tempfile.TemporaryDirectory(prefix="progress-exhaust-page-") as name:
        data = Path(name)
        base = next(base for base in range(21000, 60000, 20) if is_free(base + 3) and is_free(base + 6))
        settings = Settings(data, data, base, "512M")
        settings.port_file.write_text(str(base))
        postgres = Postgres(settings)
        postgres.spawn()
        server = None
        try:
            while not postgres.answers():
                time.sleep(0.2)
            uri = postgres.create_database("sunbird")
            runs = sample(uri, number)
            (data / "passwords.json").write_text(json.dumps(PASSWORDS))
            url = f"http://127.0.0.1:{settings.port('airflow')}"
            environment = os.environ | {
                "AIRFLOW_HOME": name,
                "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(data / "passwords.json"),
                "AIRFLOW__API__BASE_URL": url,
                "AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS": uri,
            }
            for words in (["db", "migrate"], ["dags", "reserialize"]):
                subprocess.run([*AIRFLOW, *words], env=environment, check=True, capture_output=True)
            subprocess.run([sys.executable, "-c", ADD_RUNS], env=environment, check=True, input=json.dumps(runs), text=True)
            words = [*AIRFLOW, "api-server", "--host", "127.0.0.1", "--port", str(settings.port("airflow")), "--workers", "1"]
            with (data / "api-server.log").open("wb") as log:
                server = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
            while is_free(settings.port("airflow")):
                assert server.poll() is None, (data / "api-server.log").read_text()[-3000:]
                time.sleep(0.2)
            yield url
        finally:
            if server is not None:
                server.terminate()
                server.wait()
            postgres.stop()


def pictures() -> None:
    """Take the pictures of the docs: in the light, in the dark, and as on a phone."""
    install_chromium()
    from playwright.sync_api import sync_playwright

    IMAGES.mkdir(exist_ok=True)
    with served(400) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        page = context.new_page()
        page.goto(f"{url}/auth/login")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", "admin")
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda address: "/auth/login" not in address)
        for theme, name in (("light", "page.png"), ("dark", "page-dark.png")):
            page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
            page.goto(f"{url}/plugin/progress-exhaust")
            page.frame_locator("iframe").locator(f"html[data-theme={theme}] table").first.wait_for()
            page.get_by_role("link", name="Home").first.wait_for()
            page.screenshot(path=IMAGES / name)
        page.evaluate("localStorage.setItem('theme', 'light')")
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(f"{url}/progress-exhaust/")
        page.screenshot(path=IMAGES / "page-phone.png")
        page.set_viewport_size({"width": 1440, "height": 1000})
        page.goto(f"{url}/plugin/progress-exhaust")
        page.frame_locator("iframe").get_by_role("row").filter(has_text="Ready").filter(has_text="3 of 3").get_by_role(
            "link"
        ).first.click()
        page.frame_locator("iframe").get_by_role("heading", name="Batches").wait_for()
        page.screenshot(path=IMAGES / "page-request.png")
        graph(page, url)
        browser.close()


def graph(page: "Page", url: str) -> None:
    """Take the picture of the DAG, with the stages of a batch, in Airflow's own graph."""
    page.evaluate("localStorage.setItem('theme', 'light')")
    page.set_viewport_size({"width": 1900, "height": 420})
    page.goto(f"{url}/dags/progress_exhaust")
    page.get_by_role("button", name="Show Graph").click()
    page.get_by_role("button", name="Collapse Details Panel").click()
    page.get_by_role("button", name="Expand all task groups").click()
    page.get_by_text("MarkCompleteOperator").wait_for()
    page.get_by_role("button", name="Fit View").click()
    page.add_style_tag(content=".react-flow__panel { display: none }")
    page.wait_for_timeout(1000)  # it moves there
    boxes = [node.bounding_box() for node in page.locator(".react-flow__node").all()]
    left, top = (min(box[side] for box in boxes if box) - 15 for side in ("x", "y"))
    width = max(box["x"] + box["width"] for box in boxes if box) + 15 - left
    height = max(box["y"] + box["height"] for box in boxes if box) + 15 - top
    page.screenshot(path=IMAGES / "dag.png", clip={"x": left, "y": top, "width": width, "height": height})


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that all is stopped
    match arguments:
        case ["serve", *number]:
            with served(int(number[0]) if number else 400) as url:
                print(f"{url}/plugin/progress-exhaust  user and password {', '.join(PASSWORDS)}; Ctrl-C ends it", flush=True)
                time.sleep(10**6)
        case ["pictures"]:
            pictures()
        case _:
            print("usage: python dev/page_pictures.py serve [N] | pictures", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
