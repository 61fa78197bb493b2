"""Two example DAGs: one sends each org a notice when its report is ready or has failed, and one a digest each day.

Copy this file into your DAG folder. docs/how-to/notify-orgs.md says what it needs. A notice has ids, numbers of files and the
reason of a failure. It has no data of a learner, and no link.

It is for Airflow 3.2 and later.
"""

import html
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from airflow.providers.http.hooks.http import HttpHook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable, Variable, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

REPORT = Asset("progress_exhaust_report")  # has an event for each published file
REQUESTS = "progress_exhaust_requests"  # the connection; its login needs the rights of docs/grants/operators.sql
ADDRESSES = "progress_exhaust_notices"  # the Variable: {"id of an org": "id of an HTTP connection, or a mail address"}
SENT = "progress_exhaust_notices_sent"  # the Variable with what was sent; this file writes it
TIME_ZONE = "Asia/Kolkata"
WINDOW = timedelta(hours=6)  # what ended before that gets no notice, for example after the DAG was paused
MOST_NOTICES, MOST_REASONS = 500, 20
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=20)}  # while they wait, other notices of the next run wait, too

# The times of job_request are UTC without a zone.
ENDED = """
SELECT requested_channel, request_id, status, err_message, coalesce(cardinality(download_urls), 0), dt_job_completed::text
FROM job_request
WHERE job_id = 'progress-exhaust' AND status IN ('SUCCESS', 'FAILED') AND requested_channel = ANY(%(orgs)s)
  AND dt_job_completed > %(since)s AND NOT request_id || ' ' || dt_job_completed = ANY(%(sent)s)
ORDER BY dt_job_completed LIMIT %(most)s
"""
OF_A_DAY = """
SELECT requested_channel, request_id, status, err_message FROM job_request
WHERE job_id = 'progress-exhaust' AND requested_channel = ANY(%(orgs)s)
  AND (dt_job_completed > %(since)s AND dt_job_completed <= %(until)s OR status IN ('SUBMITTED', 'PROCESSING'))
ORDER BY dt_job_submitted
"""


def read_addresses() -> dict[str, str]:
    return Variable.get(ADDRESSES, default={}, deserialize_json=True)


def read_sent(since: datetime) -> list[str]:
    """Return what was sent of the requests that have ended since then: the id and the time of each."""
    sent = Variable.get(SENT, default=[], deserialize_json=True)
    return [one for one in sent if one.partition(" ")[2] > str(since)]


def utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


@task(**RETRIES)
def send(notice: dict[str, str]) -> str | None:
    """Send one notice, and return its name. An address that does not answer fails this task alone, not those of other orgs."""
    address, text = read_addresses().get(notice["org"], ""), notice["text"]
    try:
        if "@" in address:
            with SmtpHook() as smtp:  # the connection smtp_default
                body = f"<pre>{html.escape(text)}</pre>"
                smtp.send_email_smtp(to=address, subject=text.splitlines()[0], html_content=body)
        else:
            HttpHook("POST", address).run(json={"text": text}, extra_options={"timeout": 30})
    except AirflowNotFoundException as error:
        raise AirflowFailException(f"{error}. Add the connection, or correct the Variable {ADDRESSES}") from None
    return notice.get("sent")


@dag(
    # Each published file starts it. No file of a request that has failed does: the clock finds those.
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("*/10 * * * *", timezone=TIME_ZONE), assets=[REPORT]),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
)
def progress_exhaust_notices():
    @task(**RETRIES)
    def find_ended_requests() -> list[dict[str, str]]:
        since = utc(datetime.now(UTC) - WINDOW)
        values = {"orgs": list(read_addresses()), "since": since, "sent": read_sent(since), "most": MOST_NOTICES}
        notices = []
        for org, request_id, status, reason, files, ended_at in PostgresHook(REQUESTS).get_records(ENDED, values):
            if status == "SUCCESS":
                text = f"Request {request_id}: your report is ready, files={files}" + (f". {reason}" if reason else "")
            else:
                text = f"Request {request_id} failed because: {reason or 'no reason is known'}"
            notices.append({"org": org, "text": text, "sent": f"{request_id} {ended_at}"})
        return notices

    @task(**RETRIES)
    def remember(sent: list[str]) -> None:
        """Record what was sent. The next run tries the others again."""
        Variable.set(SENT, json.dumps(sorted({*read_sent(utc(datetime.now(UTC) - WINDOW)), *sent})))

    sent = send.expand(notice=find_ended_requests())
    remember(sent).as_teardown()  # it runs if some were not sent, too, and leaves the run red then


@dag(schedule=CronTriggerTimetable("0 7 * * *", timezone=TIME_ZONE), start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def progress_exhaust_digest():
    @task(**RETRIES)
    def count_requests(dag_run) -> list[dict[str, str]]:
        until = utc(dag_run.run_after)
        values = {"orgs": list(read_addresses()), "since": until - timedelta(days=1), "until": until}
        of_orgs = defaultdict(lambda: defaultdict(list))
        for org, request_id, status, reason in PostgresHook(REQUESTS).get_records(OF_A_DAY, values):
            of_orgs[org][status].append(f"{request_id}: {reason}")
        return [{"org": org, "text": digest(found)} for org, found in of_orgs.items()]

    def digest(found: dict[str, list[str]]) -> str:
        waiting = len(found["SUBMITTED"]) + len(found["PROCESSING"])
        head = f"Progress reports of the last day: ready={len(found['SUCCESS'])} failed={len(found['FAILED'])} waiting={waiting}"
        reasons = found["FAILED"][:MOST_REASONS]
        more = [f"and {len(found['FAILED']) - MOST_REASONS} more"] if len(found["FAILED"]) > MOST_REASONS else []
        return "\n".join([head, *reasons, *more])

    send.expand(notice=count_requests())


progress_exhaust_notices()
progress_exhaust_digest()
