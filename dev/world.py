"""Worlds: everything that the stores around a report hold, made from a seed.

The rule: the same arguments give the same rows, always, so that a world can be loaded into servers and read again by a
test that knows what must come out. Rows are plain dicts with the stores' own column names; a key that is absent is a
column that was never written. Small worlds are lists. Big ones make their rows again at each reading, one learner at a
time, so that a million learners take no memory.

  sample_world         a few hundred learners, every awkward case that the specification names
  batch_world          one big batch, among other people's rows in the same tables
  many_batches_world   many small batches
"""

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

Row = dict[str, Any]
User = tuple[str, dict[str, str]]

COLLECTION = "application/vnd.ekstep.content-collection"
QUESTION_SET = "application/vnd.sunbird.questionset"
JOB_ID = "progress-exhaust"
ORG, OTHER_ORG = "01269878797503692810", "0126796199493140480"
REQUESTED_AT = datetime(2022, 9, 27, 7, 26, 12, 845000, UTC)


@dataclass
class World:
    """What the stores hold."""

    contents: list[Row] = field(default_factory=list)  # what the content search finds
    hierarchies: dict[str, str] = field(default_factory=dict)  # collection id -> JSON text
    api_only: set[str] = field(default_factory=set)  # hierarchies that Cassandra lacks: only the content API has them
    optional_nodes: dict[str, set[str]] = field(default_factory=dict)  # collection id -> content ids
    orgs: dict[str, Row] = field(default_factory=dict)  # org id -> its security `policy`, and the URLs of its public `keys`
    batches: list[Row] = field(default_factory=list)  # course_batch
    requests: list[Row] = field(default_factory=list)  # job_request
    enrolments: Iterable[Row] = field(default_factory=list)
    users: Iterable[User] = field(default_factory=list)  # user id, fields of the cache's hash
    aggregates: Iterable[Row] = field(default_factory=list)  # user_activity_agg
    attempts: Iterable[Row] = field(default_factory=list)  # assessment_aggregator, without `question`


# Ids and rows that every world shares


def node_id(rng: random.Random) -> str:
    return f"do_21{rng.randrange(10**20):020d}"


def batch_id(rng: random.Random) -> str:
    return f"0133{rng.randrange(10**17):017d}"


def user_id(digest: bytes) -> str:
    return str(UUID(bytes=digest[:16], version=4))


def random_user_id(rng: random.Random) -> str:
    return user_id(rng.randbytes(16))


def batch_row(course: str, batch: str, name: str | None, channel: str) -> Row:
    return {
        "courseid": course, "batchid": batch, "name": name, "createdfor": [channel], "description": "",
        "enrollmenttype": "open", "startdate": "2020-08-01", "start_date": datetime(2020, 8, 1, tzinfo=UTC), "status": 1,
        "tandc": True,
    }  # fmt: skip


def request_row(data: Row, *, label: str, channel: str, by: str, at: datetime, job_id: str = JOB_ID) -> Row:
    """Make a SUBMITTED row as the exhaust API does: the id is a hash of who asked for what, and when."""
    tag = f"{label}:{channel}"
    digest = hashlib.md5(f"{tag}:{job_id}:{by}:{channel}:{at.isoformat()}".encode(), usedforsecurity=False)
    return {
        "tag": tag, "request_id": digest.hexdigest().upper(), "job_id": job_id, "status": "SUBMITTED",
        "request_data": data, "requested_by": by, "requested_channel": channel, "dt_job_submitted": at,
        "download_urls": None, "dt_file_created": None, "dt_job_completed": None, "execution_time": None,
        "err_message": None, "iteration": 0, "encryption_key": None, "batch_number": None, "processed_batches": None,
    }  # fmt: skip


# Trees


def collection_node(identifier: str, name: str, children: Sequence[Row], **more: Any) -> Row:
    """Make a course; a nested one looks the same. `leafNodesCount=None` omits the count."""
    node = {
        "identifier": identifier, "name": name, "mimeType": COLLECTION, "contentType": "Course",
        "primaryCategory": "Course", "objectType": "Collection", "visibility": "Default", "children": list(children),
    } | more  # fmt: skip
    return {key: value for key, value in node.items() if value is not None}


def unit_node(identifier: str, name: str, children: Sequence[Row]) -> Row:
    return {
        "identifier": identifier, "name": name, "mimeType": COLLECTION, "contentType": "CourseUnit",
        "primaryCategory": "Course Unit", "objectType": "Collection", "visibility": "Parent", "children": list(children),
    }  # fmt: skip


def resource_node(identifier: str, name: str) -> Row:
    return {
        "identifier": identifier, "name": name, "mimeType": "video/mp4", "contentType": "Resource",
        "primaryCategory": "Learning Resource", "objectType": "Content", "visibility": "Default",
    }  # fmt: skip


def self_assess_node(identifier: str, name: str) -> Row:
    return {
        "identifier": identifier, "name": name, "mimeType": "application/vnd.ekstep.ecml-archive",
        "contentType": "SelfAssess", "primaryCategory": "Course Assessment", "objectType": "Content",
        "visibility": "Default",
    }  # fmt: skip


def question_set_node(identifier: str, name: str, category: str = "Practice Question Set") -> Row:
    """Make a question set; its questions are below it, and do not count as leaves of the course."""
    question = {"identifier": f"{identifier}_q1", "name": "Q1", "mimeType": "application/vnd.sunbird.question"}
    return {
        "identifier": identifier, "name": name, "mimeType": QUESTION_SET, "primaryCategory": category,
        "objectType": "QuestionSet", "visibility": "Default", "children": [question],
    }  # fmt: skip


def content_row(node: Row, channel: str, status: str = "Live", **more: Any) -> Row:
    """Make what the content search says of a node."""
    keys = ("identifier", "name", "objectType", "primaryCategory", "contentType", "mimeType")
    row = {key: node[key] for key in keys if key in node}
    return row | {"channel": channel, "status": status, "userConsent": "Yes", "visibility": "Default"} | more


# The sample world

PEOPLE = [
    {"firstname": "Mathew", "lastname": "Pallan", "state": "Kerala", "district": "Thrissur"},
    {"firstname": "Krishna", "lastname": "Jampana", "state": "Andhra Pradesh", "district": "Vizag"},
    {"firstname": "आरती", "lastname": "देशपांडे", "state": "महाराष्ट्र", "district": "पुणे"},
    {"firstname": "முருகன்", "lastname": "செல்வம்", "state": "தமிழ்நாடு", "district": "மதுரை"},
    {"firstname": "অনির্বাণ", "lastname": "চট্টোপাধ্যায়", "state": "পশ্চিমবঙ্গ", "district": "হাওড়া"},
    {"firstname": "ಲಕ್ಷ್ಮಿ", "lastname": "ಗೌಡ", "state": "ಕರ್ನಾಟಕ", "district": "ಮೈಸೂರು"},
    {"firstname": "فاطمہ", "lastname": "قریشی", "state": "اتر پردیش", "district": "لکھنؤ"},
    {"firstname": "Harpreet", "lastname": "Kaur", "state": "Punjab", "district": "S.A.S. Nagar"},
    {"firstname": "José", "lastname": "D'Souza", "state": "Goa", "district": "North Goa"},
    {"firstname": "Lalthanhawla", "lastname": "", "state": "Mizoram", "district": "Aizawl"},
    {"firstname": "Ravi", "lastname": "Kumar", "state": "Dadra & Nagar Haveli", "district": "Daman, Diu"},
]
# What users really type, and what breaks a csv or runs in a spreadsheet.
AWKWARD = [
    {"firstname": "Rao, P.", "lastname": 'the "Boss"', "state": "Kerala", "district": "Idukki"},
    {"firstname": "Line\r\nbreak", "lastname": "Tab\there", "state": "Tamil\nNadu", "district": "Salem\r"},
    {"firstname": "NUL\x00inside", "lastname": "bell\x07\x1b[31m", "state": "\x7fGoa\x85", "district": "\x00"},
    {"firstname": '=HYPERLINK("http://x.test","me")', "lastname": "", "state": "=1+1", "district": "@SUM(A1)"},
    {"firstname": "+91 98765", "lastname": "43210", "state": "+5", "district": "-12.50"},
    {"firstname": "-", "lastname": "-", "state": "-", "district": "@"},
    {"firstname": "\uff1dcmd", "lastname": "\uff0b1", "state": "\uff0dx", "district": "\uff20y"},
    {"firstname": "  ", "lastname": "  Devi  ", "state": "  =2+3", "district": "\u200b\ufeff=4"},
    {"firstname": "\x00=5+6", "lastname": "x", "state": "\t-7 -8", "district": "\u00a0@home"},
    {"firstname": "🙂 Asha", "lastname": "👩🏽\u200d🏫", "state": "𑒧𑒱𑒟𑒱𑒪𑒰", "district": "é e\u0301"},
    {"firstname": "'quoted", "lastname": "''", "state": '"', "district": '""'},
    {"firstname": "", "lastname": "", "state": "", "district": " "},
]


def sample_world(*, seed: int = 1, requested_at: datetime = REQUESTED_AT) -> World:
    """Make the demo's world: five collections, seven batches, a few hundred learners, seven requests."""
    rng = random.Random(seed)
    world = World()
    resources = [resource_node(node_id(rng), f"Lesson {i}") for i in range(16)]
    tests = [self_assess_node(node_id(rng), f"Quiz {i}") for i in range(4)]
    practice = [question_set_node(node_id(rng), f'Practice {i}, part "{i}"') for i in range(2)]
    exam = question_set_node(node_id(rng), "Exam", category="Exam Question Set")

    # A course inside a unit inside a course, and a course inside that one; the first quiz stands in the tree twice.
    inner = collection_node(node_id(rng), "Inner course", [resources[5], practice[0]], leafNodesCount=2)
    middle = collection_node(
        node_id(rng), "Middle course",
        [resources[3], unit_node(node_id(rng), "Unit", [resources[4], tests[1], inner])], leafNodesCount=5,
    )  # fmt: skip
    literacy = collection_node(
        node_id(rng), "Foundational Literacy – बुनियादी साक्षरता",
        [
            unit_node(node_id(rng), "Unit 1", [resources[0], tests[0], middle]),
            unit_node(node_id(rng), "Unit 2", [resources[1], tests[0], resources[2]]),
        ],
        leafNodesCount=9,
    )  # fmt: skip
    # No count in the root, a count as text below it, a lone surrogate in a name, a question set that is not an assessment.
    science = collection_node(
        node_id(rng), 'Science, "Grade 7"',
        [
            resources[6], practice[1], exam,
            collection_node(node_id(rng), "Light \ud800", [resources[7], resources[8], tests[2]], leafNodesCount="3"),
            collection_node(node_id(rng), "Sound", [resources[9], resources[6]], contentType="course"),
        ],
    )  # fmt: skip
    teachers = collection_node(node_id(rng), "Teachers'\nGuide", [resources[10], resources[11]], leafNodesCount=2)
    retired = collection_node(node_id(rng), "Old syllabus", [resources[12]], leafNodesCount=1)
    formula = collection_node(
        node_id(rng), "=SUM(A1:A9)",
        [resources[13], tests[3], collection_node(node_id(rng), "Empty", [], leafNodesCount=0)], leafNodesCount=2,
    )  # fmt: skip

    owners = [(literacy, ORG), (science, OTHER_ORG), (teachers, ORG), (retired, ORG), (formula, OTHER_ORG)]
    for tree, channel in owners:
        world.contents.append(content_row(tree, channel, "Retired" if tree is retired else "Live"))
        world.hierarchies[tree["identifier"]] = json.dumps(tree)
    world.contents += [content_row(node, ORG) for node in (inner, middle, *tests, *practice)]
    world.api_only = {teachers["identifier"]}
    world.optional_nodes = {literacy["identifier"]: {resources[2]["identifier"], tests[1]["identifier"]}}

    sizes = [
        (literacy, ORG, "Batch1", 130), (literacy, ORG, "दूसरा बैच, 2022", 30), (science, OTHER_ORG, "Science", 60),
        (teachers, ORG, "+Teachers", 20), (retired, ORG, "Old", 5), (formula, OTHER_ORG, None, 15),
        (formula, OTHER_ORG, "Nobody yet", 0),  # plain-english: quoted
    ]  # fmt: skip
    school = _School(world, rng)
    batches = []
    for tree, channel, name, size in sizes:
        batches.append(batch_id(rng))
        world.batches.append(batch_row(tree["identifier"], batches[-1], name, channel))
        school.fill(tree, batches[-1], size)
    school.enrol_again(literacy, batches[0], batches[1])

    first, second, third, fourth, fifth, _, _ = batches
    search = {
        "filters": {"identifier": [formula["identifier"]], "status": ["Live", "Unlisted"]},
        "fields": ["identifier", "name", "channel", "status"],
        "limit": 100,
    }
    wanted: list[tuple[Row, Row, str, str, str]] = [
        ({"batchId": first}, literacy, first, ORG, JOB_ID),
        ({"batchFilter": [second, fourth, second]}, literacy, second, ORG, JOB_ID),
        ({"searchFilter": {"request": search}}, formula, "search", OTHER_ORG, JOB_ID),
        ({"batchId": third}, science, third, ORG, JOB_ID),  # by an org that does not own the collection
        ({"foo": 1}, literacy, "foo", ORG, JOB_ID),
        ({"batchId": fifth}, retired, fifth, ORG, JOB_ID),
        ({"batchId": first}, literacy, first, ORG, "userinfo-exhaust"),  # another job's: never ours to touch
    ]
    for i, (data, tree, label, channel, job_id) in enumerate(wanted):
        at = requested_at + timedelta(seconds=i)
        label = f"{tree['identifier']}_{label}"
        world.requests.append(request_row(data, label=label, channel=channel, by=random_user_id(rng), at=at, job_id=job_id))
    return world


class _School:
    """Fills a small world's batches with learners: the awkward kinds first, one each, then ordinary ones."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.rng = rng
        self.enrolments: list[Row] = []
        self.users: list[User] = []
        self.aggregates: list[Row] = []
        self.attempts: list[Row] = []
        world.enrolments, world.users = self.enrolments, self.users
        world.aggregates, world.attempts = self.aggregates, self.attempts

    def fill(self, tree: Row, batch: str, size: int) -> None:
        leaves, nested, tests = tree_ids(tree)
        for i in range(size):
            user = random_user_id(self.rng)
            self.enrol(user, tree["identifier"], batch, leaves, kind=i)
            self.cache(user, kind=i)
            for place, activity in enumerate([tree["identifier"], *nested]):
                self.aggregate(user, activity, batch, kind=i + place)
            for place, test in enumerate(tests):
                self.attempt(user, tree["identifier"], batch, test, kind=i + place)

    def enrol_again(self, tree: Row, batch: str, other: str) -> None:
        """Put some of a batch's learners into another batch of the same collection too: the same partitions."""
        leaves, nested, tests = tree_ids(tree)
        again = [row["userid"] for row in self.enrolments if row["batchid"] == batch][::10]
        for i, user in enumerate(again):
            self.enrol(user, tree["identifier"], other, leaves, kind=50 + i)
            self.aggregate(user, nested[0], other, kind=50 + i)
            self.attempt(user, tree["identifier"], other, tests[0], kind=50 + i)
            self.attempt(user, "do_2130000000000000000001", other, tests[0], kind=50 + i)

    def moment(self) -> datetime:
        return datetime(2020, 8, 1, tzinfo=UTC) + timedelta(milliseconds=self.rng.randrange(60 * 86_400_000))

    def enrol(self, user: str, course: str, batch: str, leaves: list[str], kind: int) -> None:
        rng = self.rng
        done = rng.randrange(len(leaves) + 1)
        row: Row = {
            "userid": user, "courseid": course, "batchid": batch, "active": True, "addedby": user,
            "contentstatus": {leaf: 2 if i < done else rng.randrange(2) for i, leaf in enumerate(leaves)},
            "enrolled_date": self.moment(), "progress": done, "status": 1,
        }  # fmt: skip
        certificate = {
            "name": "Course completion",
            "identifier": f"certificate-{user[:8]}",
            "lastIssuedOn": "2020-09-01",
        }
        completed = {"completedon": self.moment(), "contentstatus": dict.fromkeys(leaves, 2), "status": 2}
        text_date = "2019-11-15 05:41:50:382+0000"
        kinds: list[Row] = [
            completed | {"certificates": [certificate]},
            completed | {"issued_certificates": [certificate], "certificates": []},
            completed | {"certstatus": 2},
            completed | {"certstatus": 1},
            {"contentstatus": None, "status": 0},
            {"contentstatus": {}, "certificates": [], "issued_certificates": [], "certstatus": 0},
            {"active": False},
            {"active": None},
            {"enrolled_date": None},
            {"enrolled_date": None, "enrolleddate": "  "},
            {"enrolled_date": None, "enrolleddate": text_date},
            {"enrolled_date": None, "enrolleddate": "2019-11-15T23:41:50.382+05:30"},
            {"enrolled_date": None, "enrolleddate": "2019-11-15"},
            {"enrolled_date": None, "enrolleddate": "15/11/2019, noon"},
            {"enrolled_date": None, "enrolleddate": "=TODAY()"},
            {"enrolled_date": None, "enrolleddate": "2019-02-30 05:41:50:382+0000"},
            {"enrolleddate": text_date},  # both: the timestamp wins
            {"contentstatus": {**dict.fromkeys(leaves, 2), "do_elsewhere": 2, "do_more": 2}},  # over 100 %
            {"contentstatus": dict.fromkeys(leaves, 0)},
            {"certstatus": 2},
        ]
        row |= kinds[kind] if kind < len(kinds) else rng.choice([{}, {}, {}, completed | {"certificates": [certificate]}])
        self.enrolments.append({key: value for key, value in row.items() if value is not None})

    def cache(self, user: str, kind: int) -> None:
        # Twenty kinds of enrolment come before, so that these meet ordinary rows.
        kind -= 20
        if 0 <= kind < len(AWKWARD):
            person: dict[str, str] = dict(AWKWARD[kind])
        else:
            person = dict(self.rng.choice(PEOPLE))
        person |= {
            "rootorgid": ORG if kind % 3 else OTHER_ORG, "status": "1", "usertype": "teacher", "orgname": "Org, Inc.",
            "framework_board": '["CBSE"]', "email": "never-read@example.test", "phone": "never-read",
        }  # fmt: skip
        if kind in (-3, 12):  # missing from the cache
            return
        if kind in (-6, 13, 17):
            person["status"] = "2"
        if kind == 14:
            person = {"rootorgid": ORG}
        if kind == 15:
            del person["rootorgid"]
        if kind == 16:
            del person["status"], person["lastname"], person["district"]
        self.users.append((user, person))

    def aggregate(self, user: str, activity: str, batch: str, kind: int) -> None:
        done = self.rng.randrange(7)
        counts: list[Row | None] = [
            {"aggregates": {"completedCount": float(done), "score:do_x": 1.0}},
            {"agg": {"completedCount": done}},
            {"agg": {"completedCount": 1}, "aggregates": {"completedCount": 2.0}},
            {"agg": {"completedCount": 1}, "aggregates": {"score:do_x": 3.0}},
            {"aggregates": {"score:do_x": 3.0, "max_score:do_x": 5.0}},  # neither has it
            {"aggregates": {"completedCount": 99.0}},
            None,
        ]
        found = counts[kind % len(counts)]
        if found is not None:
            key = {"activity_type": "Course", "activity_id": activity, "user_id": user, "context_id": f"cb:{batch}"}
            self.aggregates.append(key | found)

    def attempt(self, user: str, course: str, batch: str, test: str, kind: int) -> None:
        """Add a user's attempts at one assessment: none, one or several."""
        early, late = sorted((self.moment(), self.moment()))
        kinds: list[list[Row]] = [
            [],
            [{"total_score": 7.0, "grand_total": "7/10"}],
            [{"total_score": 5.0, "last_attempted_on": late}, {"total_score": 8.0, "last_attempted_on": early}],
            [{"total_score": 6.0, "last_attempted_on": late}, {"total_score": 6.0, "last_attempted_on": early}],
            [{"total_score": 6.0, "last_attempted_on": late}, {"total_score": 6.0, "last_attempted_on": late}],
            [{"grand_total": "7/10"}],
            [{"grand_total": "4"}],
            [{"total_score": 2.5}, {"total_score": None, "grand_total": "3.25/5"}],
            [{"total_score": 0.1}, {"total_score": 0.2}, {"total_score": 1 / 3}],
            [{"total_score": float("nan")}],
            [{"total_score": float("nan")}, {"total_score": 0.0}],
            [{"total_score": float("inf"), "grand_total": "9/10"}],
            [{"total_score": 2.00005}],
            [{}],
            [{"total_score": -1.0}, {"total_score": None, "grand_total": "absent"}],
            [{"total_score": 3.0, "last_attempted_on": None}, {"total_score": 3.0, "last_attempted_on": early}],
        ]
        for values in kinds[kind % len(kinds)]:
            row = {
                "user_id": user, "course_id": course, "batch_id": batch, "content_id": test,
                "attempt_id": self.rng.randbytes(16).hex(), "created_on": early, "last_attempted_on": late,
                "total_max_score": 10.0, "updated_on": late,
            } | values  # fmt: skip
            self.attempts.append({key: value for key, value in row.items() if value is not None})


def tree_ids(tree: Row) -> tuple[list[str], list[str], list[str]]:
    """List a tree's leaves, nested courses and assessments, each id once."""
    leaves, nested, tests = [], [], []
    below = list(tree["children"])
    while below:
        node = below.pop(0)
        if node["mimeType"] == COLLECTION:
            below = list(node["children"]) + below
            if node["visibility"] == "Default":
                nested.append(node["identifier"])
        else:
            leaves.append(node["identifier"])
            if node.get("contentType") == "SelfAssess" or node["primaryCategory"] == "Practice Question Set":
                tests.append(node["identifier"])
    return list(dict.fromkeys(leaves)), list(dict.fromkeys(nested)), list(dict.fromkeys(tests))


def archive_attempts(world: World, batch: str) -> None:
    """Do what AssessmentArchivalJob does with deleteArchivedBatch: the attempts go, the best scores stay in the aggregates."""
    gone = [row for row in world.attempts if row["batch_id"] == batch]
    world.attempts = [row for row in world.attempts if row["batch_id"] != batch]
    aggregates = {(row["activity_id"], row["user_id"], row["context_id"]): row for row in world.aggregates}
    for attempt in gone:
        key = (attempt["course_id"], attempt["user_id"], f"cb:{batch}")
        new = {"activity_type": "Course", "activity_id": key[0], "user_id": key[1], "context_id": key[2]}
        totals = aggregates.setdefault(key, new).setdefault("aggregates", {})
        content, score = attempt["content_id"], attempt.get("total_score", float("nan"))
        totals[f"attempts_count:{content}"] = totals.get(f"attempts_count:{content}", 0.0) + 1
        if math.isfinite(score) and score >= totals.get(f"score:{content}", score):
            totals |= {f"score:{content}": score, f"max_score:{content}": attempt["total_max_score"]}
    world.aggregates = list(aggregates.values())


# Big worlds


@dataclass(frozen=True)
class Cohort:
    """One batch's learners, by number: start up to, not including, stop."""

    course: str
    batch: str
    channel: str
    leaves: list[str]
    nested: list[str]
    tests: list[str]
    start: int
    stop: int
    also: str | None = None  # another batch of the course that every 50th learner is in, too


@dataclass(frozen=True)
class Rows:
    """Rows that are made when read. Each learner's come from the seed and his number alone, so any part stands alone."""

    cohorts: list[Cohort]
    make: Callable[[Cohort, int], Iterable[Any]]
    part: int = 0
    parts: int = 1

    def __iter__(self) -> Iterator[Any]:
        for cohort in self.cohorts:
            first = cohort.start + (self.part - cohort.start) % self.parts
            for number in range(first, cohort.stop, self.parts):
                yield from self.make(cohort, number)

    def share(self, part: int, parts: int) -> "Rows":
        """Take every parts-th learner's rows, from the part-th on."""
        return Rows(self.cohorts, self.make, part, parts)


class _Crowd:
    """Makes the rows of one learner of a big world from 64 bytes that hang on the world's key and his number."""

    def __init__(self, key: str) -> None:
        self.key = key.encode()[:64]
        self.begin = datetime(2020, 8, 1, tzinfo=UTC)
        self.contentstatus: dict[tuple[str, int], dict[str, int]] = {}

    def dice(self, number: int) -> bytes:
        return hashlib.blake2b(number.to_bytes(8), key=self.key, digest_size=64).digest()

    def moment(self, dice: bytes, place: int) -> datetime:
        minutes = dice[place] * 256 + dice[place + 1]
        return self.begin + timedelta(minutes=minutes, milliseconds=dice[place + 2] * 4)

    def statuses(self, cohort: Cohort, done: int) -> dict[str, int]:
        """Give the contents' states where so many are done; made once, for a million learners share few of them."""
        key = (cohort.course, done)
        if key not in self.contentstatus:
            found = dict.fromkeys(cohort.leaves[:done], 2) | dict.fromkeys(cohort.leaves[done : done + 2], 1)
            self.contentstatus[key] = found
        return self.contentstatus[key]

    def enrolments(self, cohort: Cohort, number: int) -> Iterator[Row]:
        dice = self.dice(number)
        completed = dice[16] < 90
        done = len(cohort.leaves) if completed else dice[17] * len(cohort.leaves) // 256
        row: Row = {
            "userid": user_id(dice), "courseid": cohort.course, "batchid": cohort.batch, "active": dice[18] >= 10,
            "contentstatus": self.statuses(cohort, done), "progress": done, "status": 2 if completed else 1,
        }  # fmt: skip
        if dice[19] < 25:
            row["enrolleddate"] = f"{self.moment(dice, 20):%Y-%m-%d %H:%M:%S}:{dice[20]:03d}+0000"
        else:
            row["enrolled_date"] = self.moment(dice, 20)
        if completed:
            row["completedon"] = self.moment(dice, 23)
            if dice[26] < 200:
                row["issued_certificates"] = [{"name": "Completion", "identifier": f"certificate-{number}"}]
            else:
                row["certstatus"] = 2
        yield row
        if cohort.also and number % 50 == 0:
            yield {**row, "batchid": cohort.also, "active": True}

    def users(self, cohort: Cohort, number: int) -> Iterator[User]:
        dice = self.dice(number)
        if dice[27] < 3:  # about one in a hundred is missing from the cache
            return
        person = PEOPLE[dice[28] % len(PEOPLE)]
        yield (
            user_id(dice),
            {
                "firstname": person["firstname"], "lastname": PEOPLE[dice[29] % len(PEOPLE)]["lastname"],
                "state": person["state"], "district": person["district"],
                "rootorgid": cohort.channel if dice[30] < 230 else OTHER_ORG,
                "orgname": "School org", "usertype": "teacher", "framework_board": '["CBSE"]',
                "status": "2" if dice[31] < 2 else "1", "email": "never-read@example.test", "phone": "never-read",
            },
        )  # fmt: skip

    def aggregates(self, cohort: Cohort, number: int) -> Iterator[Row]:
        dice = self.dice(number)
        user = user_id(dice)
        for place, activity in enumerate(cohort.nested):
            luck = dice[32 + place % 8]
            if luck >= 230:
                continue
            row: Row = {
                "activity_type": "Course", "activity_id": activity, "user_id": user, "context_id": f"cb:{cohort.batch}",
            }  # fmt: skip
            if luck < 40:
                row["agg"] = {"completedCount": luck % 12}
            else:
                row["aggregates"] = {"completedCount": float(luck % 12)}
            yield row
            if cohort.also and number % 50 == 0:
                yield {**row, "context_id": f"cb:{cohort.also}"}

    def attempts(self, cohort: Cohort, number: int) -> Iterator[Row]:
        dice = self.dice(number)
        user = user_id(dice)
        for place, test in enumerate(cohort.tests):
            luck = dice[40 + place % 24]
            for attempt in range((0, 0, 0, 0, 1, 1, 1, 2)[luck % 8]):
                points = (luck + 3 * attempt) % 21 / 2
                last = self.moment(dice, 40 + (place + attempt) % 20)
                yield {
                    "user_id": user, "course_id": cohort.course, "batch_id": cohort.batch, "content_id": test,
                    "attempt_id": f"{luck:02x}{attempt:02x}{user[:8]}", "created_on": last, "last_attempted_on": last,
                    "updated_on": last, "grand_total": f"{points}/10", "total_max_score": 10.0, "total_score": points,
                }  # fmt: skip
                if cohort.also and number % 50 == 0 and not attempt:
                    yield {
                        "user_id": user, "course_id": cohort.course, "batch_id": cohort.also, "content_id": test,
                        "attempt_id": "other", "last_attempted_on": last, "total_max_score": 10.0, "total_score": 10.0,
                    }  # fmt: skip


def big_tree(rng: random.Random, name: str, nested: int, assessments: int, leaves: int) -> Row:
    """Make a course of so many nested courses, assessments and leaves in all, dealt out evenly."""
    contents = [resource_node(node_id(rng), f"Lesson {i}") for i in range(leaves - assessments)]
    contents += [(self_assess_node if i % 2 == 0 else question_set_node)(node_id(rng), f"Quiz {i}") for i in range(assessments)]
    rng.shuffle(contents)
    rooms = nested + 1
    own, *shares = [contents[i::rooms] for i in range(rooms)]
    courses = [collection_node(node_id(rng), f"Part {i}", share, leafNodesCount=len(share)) for i, share in enumerate(shares)]
    unit = unit_node(node_id(rng), "Unit", courses[1:])
    return collection_node(node_id(rng), name, [*own, *courses[:1], unit], leafNodesCount=leaves)


def _crowded(world: World, key: str, cohorts: list[Cohort]) -> World:
    crowd = _Crowd(key)
    world.enrolments, world.users = Rows(cohorts, crowd.enrolments), Rows(cohorts, crowd.users)
    world.aggregates, world.attempts = Rows(cohorts, crowd.aggregates), Rows(cohorts, crowd.attempts)
    return world


def batch_world(
    learners: int, others: int = 0, *, nested: int = 3, assessments: int = 5, leaves: int = 40, seed: int = 1,
    requested_at: datetime = REQUESTED_AT,
) -> World:  # fmt: skip
    """Make one batch of so many learners with one request, and so many others in other batches and collections."""
    if leaves < assessments:
        raise ValueError(f"{assessments} assessments are leaves too: at least as many leaves, not {leaves}")
    # The shape is part of the seed: worlds of other sizes share no ids, and so can be in the same servers.
    key = f"{seed}:{learners}:{others}:{nested}:{assessments}:{leaves}"
    rng = random.Random(key)
    world = World()
    trees = [big_tree(rng, f"Big course {i}", nested, assessments, leaves) for i in range(3)]
    for tree in trees:
        world.contents.append(content_row(tree, ORG))
        world.hierarchies[tree["identifier"]] = json.dumps(tree)
    main, *more = [batch_id(rng) for _ in range(1 + min(20, others))]
    cohorts: list[Cohort] = []
    for i, batch in enumerate([main, *more]):
        # The batch's own course and two others in turn, so that half of the noise shares the batch's partitions.
        tree = trees[0] if i % 2 == 0 else trees[1 + i // 2 % 2]
        ids = tree_ids(tree)
        world.batches.append(batch_row(tree["identifier"], batch, f"Batch {i}", ORG))
        size = learners if i == 0 else others // len(more) + (i <= others % len(more))
        start = cohorts[-1].stop if cohorts else 0
        also = more[1] if i == 0 and len(more) > 1 else None
        cohorts.append(Cohort(tree["identifier"], batch, ORG, *ids, start, start + size, also))
    world.requests = [
        request_row(
            {"batchId": main}, label=f"{trees[0]['identifier']}_{main}", channel=ORG, by=random_user_id(rng), at=requested_at
        )
    ]  # fmt: skip
    return _crowded(world, key, cohorts)


def many_batches_world(
    batches: int, learners_each: int, seed: int = 1, *, per_request: int = 20, requested_at: datetime = REQUESTED_AT
) -> World:
    """Make many batches: one org, course and request for each per_request of them, within the usual limits a channel."""
    key = f"{seed}:{batches}:{learners_each}:{per_request}"
    rng = random.Random(key)
    world = World()
    cohorts: list[Cohort] = []
    for first in range(0, batches, per_request):
        channel = f"0127{rng.randrange(10**16):016d}"
        tree = big_tree(rng, f"Course {first}", nested=2, assessments=3, leaves=12)
        world.contents.append(content_row(tree, channel))
        world.hierarchies[tree["identifier"]] = json.dumps(tree)
        wanted = [batch_id(rng) for _ in range(min(per_request, batches - first))]
        for i, batch in enumerate(wanted):
            world.batches.append(batch_row(tree["identifier"], batch, f"Batch {first + i}", channel))
            start = cohorts[-1].stop if cohorts else 0
            cohorts.append(Cohort(tree["identifier"], batch, channel, *tree_ids(tree), start, start + learners_each))
        world.requests.append(
            request_row(
                {"batchFilter": wanted}, label=f"{tree['identifier']}_all", channel=channel, by=random_user_id(rng),
                at=requested_at + timedelta(milliseconds=first),
            )
        )  # fmt: skip
    return _crowded(world, key, cohorts)
