"""A report calculated by hand from raw rows.

The other tests compare the product with tests/oracle.py, over worlds that dev/world.py makes and dev/load.py loads. A rule that
all of these misread in the same way would pass. Nothing of them is used here: the rows are statements as the platform's services
send them. The csv is calculated from section 2 of the specification, one learner at a time, without running any code.
"""

import json
from typing import Any

import pytest

from tests.integration.install import Install

BATCH = "01331234567890123456"
OWNER, OTHER = "org-owner", "org-other"
TREE = """
{"identifier": "do_course", "mimeType": "application/vnd.ekstep.content-collection", "visibility": "Default",
 "contentType": "Course", "leafNodesCount": 8, "children": [
  {"identifier": "do_unit1", "mimeType": "application/vnd.ekstep.content-collection", "visibility": "Parent",
   "contentType": "CourseUnit", "leafNodesCount": 2, "children": [
    {"identifier": "do_page1", "mimeType": "application/pdf", "contentType": "Resource"},
    {"identifier": "do_quiz1", "mimeType": "application/vnd.ekstep.ecml-archive", "contentType": "SelfAssess"},
    {"identifier": "do_part1", "mimeType": "application/vnd.ekstep.content-collection", "visibility": "Default",
     "contentType": "Course", "leafNodesCount": 3, "children": [
      {"identifier": "do_page2", "mimeType": "application/pdf", "contentType": "Resource"},
      {"identifier": "do_page3", "mimeType": "application/pdf", "contentType": "Resource"}]}]},
  {"identifier": "do_quiz2", "mimeType": "application/vnd.sunbird.questionset", "objectType": "QuestionSet",
   "primaryCategory": "Practice Question Set"},
  {"identifier": "do_part2", "mimeType": "application/vnd.ekstep.content-collection", "visibility": "Default",
   "contentType": "course", "children": [
    {"identifier": "do_page4", "mimeType": "application/pdf", "contentType": "Resource"},
    {"identifier": "do_unit2", "mimeType": "application/vnd.ekstep.content-collection", "visibility": "Parent",
     "contentType": "CourseUnit", "children": [
      {"identifier": "do_page5", "mimeType": "application/pdf", "contentType": "Resource"}]},
    {"identifier": "do_quiz3", "mimeType": "application/vnd.ekstep.ecml-archive", "contentType": "SelfAssess"}]},
  {"identifier": "do_extra", "mimeType": "application/pdf", "contentType": "Resource"}]}
"""
ENROL = "INSERT INTO {courses}.report_user_enrolments (batchid, courseid, active, userid, enrolled_date, "
OF = f"VALUES ('{BATCH}', 'do_course', true, "
ENROL_NOW, NOW = f"{ENROL}contentstatus", "'2020-08-25 13:45:54.150+0000', "
ATTEMPT = "INSERT INTO {courses}.assessment_aggregator (course_id, batch_id, user_id, content_id, attempt_id, last_attempted_on, "
AT = f"VALUES ('do_course', '{BATCH}', "
TOTALS = "INSERT INTO {courses}.user_activity_agg (activity_type, context_id, activity_id, user_id, "
IN_BATCH = f"VALUES ('Course', 'cb:{BATCH}', "

ROWS = [
    f"INSERT INTO {{courses}}.course_batch (courseid, batchid, name, status) VALUES ('do_course', '{BATCH}', 'Batch 7', 1)",
    f"INSERT INTO {{hierarchies}}.content_hierarchy (identifier, hierarchy) VALUES ('do_course', '{TREE}')",
    # Progress and dates
    f"{ENROL_NOW}) {OF}'u01', {NOW}null)",
    f"{ENROL_NOW}) {OF}'u02', {NOW}{{'do_page1': 2, 'do_quiz1': 1}})",
    f"{ENROL}enrolleddate, contentstatus) {OF}'u03', null, '2019-11-15 05:41:50:382+0000', "
    "{'do_page1': 2, 'do_page2': 2, 'do_page3': 2})",
    f"{ENROL}enrolleddate, contentstatus) {OF}'u04', null, '2019-11-15 05:41:50:382+0530', "
    "{'do_page1': 2, 'do_page2': 2, 'do_page3': 2, 'do_page4': 2, 'do_page5': 2})",
    f"{ENROL}enrolleddate, contentstatus) {OF}'u05', null, 'last week', {{'do_page1': 2, 'do_page2': 2, 'do_page3': 2, "
    "'do_page4': 2, 'do_page5': 2, 'do_quiz1': 2, 'do_quiz2': 2})",
    f"{ENROL}enrolleddate, contentstatus) {OF}'u06', {NOW}'2019-11-15 05:41:50:382+0000', {{'do_page1': 0, 'do_page2': 1}})",
    f"{ENROL}completedon, issued_certificates, contentstatus) {OF}'u07', {NOW}'2021-01-31 23:59:59.999+0000', "
    "[{'name': 'Merit'}], {'do_page1': 2, 'do_page2': 2})",
    f"{ENROL}certstatus, certificates, contentstatus) {OF}'u08', {NOW}2, [{{'name': 'Merit'}}], "
    "{'do_page1': 2, 'do_page2': 2})",
    f"{ENROL}certstatus, certificates, contentstatus) {OF}'u09', {NOW}2, [], "
    "{'do_page1': 2, 'do_page2': 2, 'do_page3': 2, 'do_page4': 2})",
    f"{ENROL_NOW}) {OF}'u10', {NOW}{{'do_extra': 2, 'do_page1': 2, 'do_page2': 2}})",
    f"{ENROL_NOW}) {OF}'u11', {NOW}{{'do_gone': 2, 'do_page1': 2}})",
    f"{ENROL_NOW}) {OF}'u12', {NOW}{{'do_unit1': 2, 'do_part1': 2, 'do_page1': 2}})",
    f"{ENROL_NOW}) {OF}'u13', {NOW}{{'do_page1': 2, 'do_page2': 2, 'do_page3': 2, 'do_page4': 2, 'do_page5': 2, 'do_quiz1': 2, "
    "'do_quiz2': 2, 'do_quiz3': 2})",
    # Scores
    f"{ENROL_NOW}) {OF}'u14', {NOW}null)",
    f"{ATTEMPT}total_score) {AT}'u14', 'do_quiz1', 'a1', '2020-09-02', 5)",
    f"{ATTEMPT}total_score) {AT}'u14', 'do_quiz1', 'a2', '2020-09-01', 7)",
    f"{ATTEMPT}total_score) {AT}'u14', 'do_quiz2', 'a1', '2020-09-03', 3)",
    f"{ENROL_NOW}) {OF}'u15', {NOW}null)",
    f"{ATTEMPT}grand_total) {AT}'u15', 'do_quiz1', 'a1', '2020-09-01', '6/10')",
    f"{ATTEMPT}total_score) {AT}'u15', 'do_gone', 'a1', '2020-09-01', 9)",
    f"{ENROL_NOW}) {OF}'u16', {NOW}null)",
    f"{ATTEMPT}total_score) {AT}'u16', 'do_quiz1', 'a1', '2020-09-01', 3.14159)",
    f"{ATTEMPT}total_score) {AT}'u16', 'do_quiz2', 'a1', '2020-09-01', 0.00005)",
    f"{ATTEMPT}total_score) {AT}'u16', 'do_quiz3', 'a1', '2020-09-01', 2.50)",
    f"{ENROL_NOW}) {OF}'u17', {NOW}null)",
    f"{TOTALS}aggregates) {IN_BATCH}'do_course', 'u17', {{'completedCount': 0, 'score:do_quiz1': 4, 'max_score:do_quiz1': 10, "
    "'attempts_count:do_quiz1': 2, 'score:do_quiz3': 9})",
    f"{ATTEMPT}total_score) {AT}'u17', 'do_quiz2', 'a1', '2020-09-01', 2)",
    f"{ATTEMPT}total_score) {AT}'u17', 'do_quiz3', 'a1', '2020-09-01', 1)",
    # Nested collections
    f"{ENROL_NOW}) {OF}'u18', {NOW}null)",
    f"{TOTALS}aggregates) {IN_BATCH}'do_part1', 'u18', {{'completedCount': 2}})",
    f"{TOTALS}agg) {IN_BATCH}'do_part2', 'u18', {{'completedCount': 1}})",
    f"{ENROL_NOW}) {OF}'u19', {NOW}null)",
    f"{TOTALS}agg, aggregates) {IN_BATCH}'do_part1', 'u19', {{'completedCount': 1}}, {{'completedCount': 3}})",
    f"{TOTALS}aggregates) {IN_BATCH}'do_part2', 'u19', {{'completedCount': 5}})",
    f"{TOTALS}aggregates) VALUES ('Course', 'cb:another', 'do_part1', 'u19', {{'completedCount': 1}})",
    # Users
    f"{ENROL_NOW}) {OF}'u20', {NOW}null)",
    f"{ENROL_NOW}) {OF}'u21', {NOW}{{'do_page1': 2}})",
    f"{ENROL_NOW}) {OF}'u22', {NOW}null)",
    f"{ENROL_NOW}) {OF}'u23', {NOW}null)",
    # Not in the report: inactive, without a date, in another batch, in another collection
    "INSERT INTO {courses}.report_user_enrolments (batchid, courseid, active, userid, enrolled_date) "
    f"VALUES ('{BATCH}', 'do_course', false, 'u24', '2020-08-25')",
    "INSERT INTO {courses}.report_user_enrolments (batchid, courseid, active, userid) "
    f"VALUES ('{BATCH}', 'do_course', true, 'u25')",
    "INSERT INTO {courses}.report_user_enrolments (batchid, courseid, active, userid, enrolled_date) "
    "VALUES ('0133another', 'do_course', true, 'u26', '2020-08-25')",
    "INSERT INTO {courses}.report_user_enrolments (batchid, courseid, active, userid, enrolled_date) "
    f"VALUES ('{BATCH}', 'do_another', true, 'u27', '2020-08-25')",
]

ASHA = {"firstname": "Asha", "lastname": "Rao", "state": "Goa", "district": "North Goa", "rootorgid": OWNER, "status": "1"}
USERS: dict[str, dict[str, str]] = {f"u{number:02}": ASHA for number in range(1, 28) if number != 20} | {
    "u02": ASHA | {"rootorgid": OTHER},
    "u14": ASHA | {"rootorgid": OTHER, "firstname": " Asha", "lastname": "Rao "},
    "u21": ASHA | {"status": "2"},
    "u22": {"firstname": "=SUM(A1)", "state": '"Goa"', "district": "North\tGoa", "rootorgid": OWNER},
    "u23": {"firstname": "Rao, Asha", "rootorgid": OWNER},
}

HEADER = (
    "Collection Id,Collection Name,Batch Id,Batch Name,User UUID,User Name,State,District,Enrolment Date,Completion Date,"
    "Progress,Certificate Status,Total Score,do_quiz1 - Score,do_part1 - Progress,do_quiz2 - Score,do_part2 - Progress,"
    "do_quiz3 - Score"
)
C = f'do_course,"Health, part 1",{BATCH},Batch 7'
A = "Asha Rao,Goa,North Goa"
D = "2020-08-25 13:45:54:150+0000"
LINES = {
    "u01": f"{C},u01,{A},{D},,0,,,,,,,",  # 0 of 8; nothing attempted: blank
    "u02": f"{C},u02,{A},{D},,13,,,,,,,",  # 1 of 8 = 12.5, half up; status 1 is not completed
    "u03": f"{C},u03,{A},2019-11-15 05:41:50:382+0000,,38,,,,,,,",  # 3 of 8 = 37.5; the text date
    "u04": f"{C},u04,{A},2019-11-15 00:11:50:382+0000,,63,,,,,,,",  # 5 of 8 = 62.5; 05:41 less 5:30, in UTC
    "u05": f"{C},u05,{A},last week,,88,,,,,,,",  # 7 of 8 = 87.5; a text that is not a date stays
    "u06": f"{C},u06,{A},{D},,0,,,,,,,",  # the timestamp wins over the text; statuses 0 and 1 count nothing
    "u07": f"{C},u07,{A},{D},2021-01-31 23:59:59:999+0000,100,Issued,,,,,,",  # completedon: 100 with 2 of 8
    "u08": f"{C},u08,{A},{D},,25,Issued,,,,,,",  # 2 of 8; a certificate wins over certstatus 2
    "u09": f"{C},u09,{A},{D},,50,Failed,,,,,,",  # 4 of 8; certstatus 2 and an empty list
    "u10": f"{C},u10,{A},{D},,25,,,,,,,",  # 2 of 8: the optional content does not count
    "u11": f"{C},u11,{A},{D},,13,,,,,,,",  # 1 of 8: the removed content does not count
    "u12": f"{C},u12,{A},{D},,13,,,,,,,",  # 1 of 8: collections do not count
    "u13": f"{C},u13,{A},{D},,100,,,,,,,",  # 8 of 8, without a completion date
    "u14": f"{C},u14,{A},{D},,0,,10,7,,3,,",  # best of 5 and 7, although 5 is later; 7 + 3
    "u15": f"{C},u15,{A},{D},,0,,6,6,,,,",  # 6 of "6/10"; the removed quiz has no column, and is not in the sum
    "u16": f"{C},u16,{A},{D},,0,,5.6416,3.1416,,0.0001,,2.5",  # 4 decimals, half up; the sum of 5.64164 is rounded once
    "u17": f"{C},u17,{A},{D},,0,,7,4,,2,,1",  # archived: 4 of the aggregate; an attempt (1) wins over an aggregate (9)
    "u18": f"{C},u18,{A},{D},,0,,,,67,,33,",  # 2 of 3 as stated; 1 of 3 as counted, from the older column
    "u19": f"{C},u19,{A},{D},,0,,,,100,,100,",  # 3 of 3, the newer column wins; 5 of 3 is at most 100
    "u20": f"{C},u20,,,,{D},,0,,,,,,,",  # not in the cache: blank, and kept for the owner
    "u21": f"{C},u21,,,,{D},,13,,,,,,,",  # deleted: the same
    "u22": f'{C},u22,\'=SUM(A1),"""Goa""",North Goa,{D},,0,,,,,,,',  # a formula; quotes; a tab
    "u23": f'{C},u23,"Rao, Asha",,,{D},,0,,,,,,,',  # a comma; no place
}


@pytest.fixture
def raw(queue: Install) -> Install:
    """Write the rows as the platform's services do, and submit a request of each org."""
    for row in ROWS:
        queue.session.execute(fill(row, queue))
    for user_id, fields in USERS.items():
        queue.users.hset(f"user:{user_id}", mapping=fields)
    queue.relations.sadd("do_course:do_course:optionalnodes", "do_extra")
    found: list[dict[str, Any]] = [
        {"identifier": "do_course", "name": "Health, part 1", "channel": OWNER, "status": "Live", "objectType": "Content"}
    ]
    (queue.content.data / "contents.json").write_text(json.dumps(found))
    for org in (OWNER, OTHER):
        queue.sql(
            "INSERT INTO job_request (tag, request_id, job_id, status, request_data, requested_by, requested_channel, "
            "dt_job_submitted, iteration) VALUES (%s, %s, 'progress-exhaust', 'SUBMITTED', %s, 'user', %s, '2022-09-27', 0)",
            [org, org, json.dumps({"batchId": BATCH}), org],
        )
    return queue


def fill(row: str, install: Install) -> str:
    """Put the install's keyspaces into a statement."""
    return row.replace("{courses}", install.names.courses).replace("{hierarchies}", install.names.hierarchies)


def test_report_is_what_a_person_calculates(raw: Install) -> None:
    result = raw.run_dag()
    assert result.state == "success", result.failed()
    for org, learners in ((OWNER, list(LINES)), (OTHER, ["u02", "u14"])):
        key = f"progress-exhaust/{org}/{BATCH}_progress_20220928.zip"
        lines = [HEADER, *(LINES[one] for one in learners)]
        assert raw.csv(key).decode() == "".join(f"{line}\r\n" for line in lines)
