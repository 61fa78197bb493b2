"""The report as the specification words it: one learner at a time, the most obvious way, to hold the product against.

Rule: nothing here is shared with the product, and nothing is fast. Where the two differ, one of them misread the
specification. Layouts `standard` and `sunbird-lern-7`.
"""

import json
import math
import re
import struct
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any, Protocol
from zoneinfo import ZoneInfo

Row = dict[str, Any]

COLLECTION = "application/vnd.ekstep.content-collection"
LERN7_LABELS = [
    "Declared Board", "Batch Id", "State", "User UUID", "Progress", "Org Name", "Cluster Name", "User Type", "Block Name",
    "School Name", "User Sub Type", "Collection Name", "Collection Id", "Completion Date", "Certificate Status", "District",
    "School Id", "Batch Name", "Enrolment Date", "Total Score",
]  # fmt: skip
STATIC_LABELS = [
    "Collection Id", "Collection Name", "Batch Id", "Batch Name", "User UUID", "User Name", "State", "District",
    "Enrolment Date", "Completion Date", "Progress", "Certificate Status", "Total Score",
]  # fmt: skip
# Wide enough for the sum of any doubles, so that no sum is ever rounded.
EXACT = Context(prec=2000)


class NoReport(Exception):
    """This batch gets no report; the message says why."""


class Stores(Protocol):
    """What the oracle reads of a World; see dev/world.py."""

    contents: list[Row]
    hierarchies: dict[str, str]
    optional_nodes: dict[str, set[str]]
    batches: list[Row]
    enrolments: Any
    users: Any
    aggregates: Any
    attempts: Any


@dataclass(frozen=True)
class Options:
    """The settings that change a report, at their defaults."""

    bom: bool = False
    defuse: bool = True
    attempt: str = "best"  # or "latest"
    named_labels: bool = False
    failed_certstatus: tuple[int, ...] = (2,)
    content_types: tuple[str, ...] = ("SelfAssess",)
    object_types: tuple[str, ...] = ("QuestionSet",)
    primary_categories: tuple[str, ...] = ("Practice Question Set",)
    zone: str = "Asia/Kolkata"
    spark: bool = False  # sunbird-lern-7 with the dialect of Spark


@dataclass(frozen=True)
class Counts:
    """What the run's summary says of one batch."""

    enrolled: int  # active, and with an enrolment date
    reported: int  # rows of the csv
    left_out: dict[str, int]  # enrolled, but not reported: missing, deleted, unknown_org, other_org
    not_enrolled: dict[str, int]  # rows of the enrolment table that never counted: inactive, no_date
    missing: int  # enrolled users that the cache does not know, reported or not
    deleted: int  # enrolled users that the cache calls deleted, reported or not
    assessments: int
    nested: int
    blank_fields: int  # fields of the standard layout that the cache does not have of reported learners
    scores_from_aggregates: int  # cells
    attempts_of_removed: int  # of reported learners, at contents that are no longer in the tree
    completed_removed: int  # by reported learners, contents that are no longer in the tree


@dataclass(frozen=True)
class Learner:
    enrolment: Row
    cached: dict[str, str]  # empty where the cache's columns are to be blank


@dataclass
class Sorted:
    """The batch's learners, sorted into those who are reported and those who are not, by reason."""

    reported: list[Learner] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    not_enrolled: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    missing: int = 0
    deleted: int = 0


def expected_csv(world: Stores, request: Row | None, batch_id: str, run_date: date, *, options: Options = Options()) -> bytes:
    """Make the csv of one batch of one request (None: a standalone run). The run's date is in the key only."""
    collection, batch, tree = find_batch(world, batch_id)
    columns = dynamic_columns(tree, options)
    attempts = by_user(
        row for row in world.attempts
        if row["course_id"] == collection["identifier"] and row["batch_id"] == batch_id
    )  # fmt: skip
    aggregates = by_user(
        row for row in world.aggregates
        if row["activity_type"] == "Course" and row["context_id"] == f"cb:{batch_id}"
    )  # fmt: skip

    lines = [STATIC_LABELS + [text(column_label(kind, node, options), options) for kind, node in columns]]
    learners = sort_learners(world, request, batch_id).reported
    for learner in sorted(learners, key=lambda learner: learner.enrolment["userid"]):
        enrolment, cached = learner.enrolment, learner.cached
        user_id = enrolment["userid"]
        totals = own_totals(aggregates[user_id], collection)
        scores = {
            node["identifier"]: any_score(attempts[user_id], totals, node["identifier"], options)
            for kind, node in columns
            if kind == "Score"
        }
        line = [
            text(enrolment["courseid"], options),
            text(collection.get("name"), options),
            text(enrolment["batchid"], options),
            text(batch.get("name"), options),
            text(user_id, options),
            defused(user_name(cached), options),
            text(cached.get("state"), options),
            text(cached.get("district"), options),
            enrolment_date(enrolment, options),
            timestamp(enrolment["completedon"]) if enrolment.get("completedon") is not None else "",
            progress(enrolment, tree, world.optional_nodes.get(collection["identifier"], set())),
            certificate_status(enrolment, options),
            total([score for score in scores.values() if score is not None]),
        ]
        for kind, node in columns:
            if kind == "Score":
                score = scores[node["identifier"]]
                line.append("" if score is None else number(Decimal(repr(score))))
            else:
                line.append(nested_progress(aggregates[user_id], node))
        lines.append(line)

    body = "".join(",".join(quoted(cell) for cell in line) + "\r\n" for line in lines)
    return ("\ufeff" if options.bom else "").encode() + body.encode("utf-8")


def expected_lern7_csv(world: Stores, request: Row | None, batch_id: str, *, options: Options = Options()) -> bytes:
    """Make the csv of one batch in layout `sunbird-lern-7`."""
    collection, batch, tree = find_batch(world, batch_id)
    known = {user_id for user_id, cached in world.users if cached}
    everybody = sort_learners(world, request, batch_id, blank_dates=True).reported
    people = [one for one in everybody if one.enrolment["userid"] in known]
    reported = {one.enrolment["userid"] for one in people}
    assessments = {node["identifier"] for kind, node in dynamic_columns(tree, options) if kind == "Score"}
    attempts = by_user(
        row for row in world.attempts
        if row["course_id"] == collection["identifier"] and row["batch_id"] == batch_id
        and row["user_id"] in reported and row["content_id"] in assessments
    )  # fmt: skip
    tried = sorted({row["content_id"] for rows in attempts.values() for row in rows})
    optional = world.optional_nodes.get(collection["identifier"], set())

    lines = [LERN7_LABELS + [text(f"{content_id} - Score", options) for content_id in tried]]
    for learner in sorted(people, key=lambda learner: learner.enrolment["userid"]):
        enrolment, cached = learner.enrolment, learner.cached
        chosen = {content_id: chosen_attempt(attempts[enrolment["userid"]], content_id, options) for content_id in tried}
        taken = [attempt for attempt in chosen.values() if attempt]
        certificates = enrolment.get("certificates") or enrolment.get("issued_certificates")
        stated = leaf_count(tree | {"children": []})  # without children there is nothing to count
        line = [
            board(cached.get("framework_board") or ""),
            f"BatchId_{enrolment['batchid']}",
            cached.get("state"),
            enrolment["userid"],
            lern7_progress(enrolment, tree, optional) if stated else "100",
            cached.get("orgname"),
            cached.get("cluster"),
            cached.get("usertype"),
            cached.get("block"),
            cached.get("schoolname"),
            cached.get("usersubtype"),
            collection.get("name"),
            enrolment["courseid"],
            day(enrolment.get("completedon"), "", options),
            "Issued" if certificates else "",
            cached.get("district"),
            cached.get("schooludisecode"),
            batch.get("name"),
            day(enrolment.get("enrolled_date"), enrolment.get("enrolleddate") or "", options),
        ]
        percents = [total_percent(taken), *(attempt_percent(attempt) if attempt else "" for attempt in chosen.values())]
        lines.append([defused(cleaned(cell or "").strip(), options) for cell in line] + percents)

    written = [",".join(map(spark_quoted if options.spark else quoted, line)) for line in lines]
    return ("\ufeff" if options.bom else "").encode() + "".join(f"{line}\n" for line in written).encode()


def expected_key(request: Row | None, batch_id: str, run_date: date) -> str:
    """Give the csv's key; the package's is the same with `.zip`."""
    folder = f"{request['request_id']}/" if request else ""
    return f"progress-exhaust/{folder}{batch_id}_progress_{run_date:%Y%m%d}.csv"


def expected_counts(world: Stores, request: Row | None, batch_id: str, *, options: Options = Options()) -> Counts:
    """Count the batch's learners as the run's summary does."""
    collection, _, tree = find_batch(world, batch_id)
    people = sort_learners(world, request, batch_id)
    columns = dynamic_columns(tree, options)
    kinds = [kind for kind, _ in columns]
    reported = {one.enrolment["userid"] for one in people.reported}
    optional = world.optional_nodes.get(collection["identifier"], set())
    contents = tree_contents(tree)
    attempts = by_user(
        row for row in world.attempts
        if row["course_id"] == collection["identifier"] and row["batch_id"] == batch_id and row["user_id"] in reported
    )  # fmt: skip
    totals = {
        row["user_id"]: own_totals([row], collection)
        for row in world.aggregates
        if row["activity_type"] == "Course" and row["context_id"] == f"cb:{batch_id}"
        and row["activity_id"] == collection["identifier"]
    }  # fmt: skip
    archived = [
        node for user_id in reported for kind, node in columns
        if kind == "Score" and not chosen_attempt(attempts[user_id], node["identifier"], options)
        and any_score([], totals.get(user_id, {}), node["identifier"], options) is not None
    ]  # fmt: skip
    return Counts(
        enrolled=len(people.reported) + sum(people.left_out.values()),
        reported=len(people.reported),
        left_out=dict(people.left_out),
        not_enrolled=dict(people.not_enrolled),
        missing=people.missing,
        deleted=people.deleted,
        assessments=kinds.count("Score"),
        nested=kinds.count("Progress"),
        blank_fields=sum(
            name not in one.cached
            for one in people.reported
            if one.cached
            for name in ("firstname", "lastname", "state", "district")
        ),
        scores_from_aggregates=len(archived),
        attempts_of_removed=sum(row["content_id"] not in contents for rows in attempts.values() for row in rows),
        completed_removed=sum(
            status == 2 and content_id not in contents and content_id not in optional
            for one in people.reported
            for content_id, status in (one.enrolment.get("contentstatus") or {}).items()
        ),
    )


# Who is in it


def find_batch(world: Stores, batch_id: str) -> tuple[Row, Row, Row]:
    """Find the batch's collection, its row and its tree."""
    batches = [row for row in world.batches if row["batchid"] == batch_id]
    if not batches:
        raise NoReport(f"unknown batch {batch_id}")
    (batch,) = batches
    found = [content for content in world.contents if content["identifier"] == batch["courseid"]]
    if not found:
        raise NoReport(f"unknown collection {batch['courseid']}")
    (collection,) = found
    if collection.get("status") == "Retired":
        raise NoReport(f"retired collection {collection['identifier']}")
    if collection["identifier"] not in world.hierarchies:
        raise NoReport(f"no hierarchy of {collection['identifier']}")
    return collection, batch, json.loads(world.hierarchies[collection["identifier"]])


def sort_learners(world: Stores, request: Row | None, batch_id: str, *, blank_dates: bool = False) -> Sorted:
    """Decide about each enrolment of the batch: reported, excluded, or never enrolled.

    blank_dates: a text date counts as a date even if it is blank, as for the Spark job.
    """
    collection, _, _ = find_batch(world, batch_id)
    owner = collection.get("channel")
    requester = request["requested_channel"] if request else owner
    users = dict(world.users)
    result = Sorted()
    for row in world.enrolments:
        if row["batchid"] != batch_id or row["courseid"] != collection["identifier"]:
            continue
        if row.get("active") is not True:
            result.not_enrolled["inactive"] += 1
            continue
        words = row.get("enrolleddate")
        if row.get("enrolled_date") is None and (words is None or not (words.strip() or blank_dates)):
            result.not_enrolled["no_date"] += 1
            continue
        cached = users.get(row["userid"], {})
        missing = not cached
        deleted = cached.get("status") == "2"
        result.missing += missing
        result.deleted += deleted
        if requester == owner:
            result.reported.append(Learner(row, {} if deleted else cached))
        elif missing:
            result.left_out["missing"] += 1
        elif not cached.get("rootorgid"):
            result.left_out["unknown_org"] += 1
        elif cached.get("rootorgid") != requester:
            result.left_out["other_org"] += 1
        elif deleted:
            result.left_out["deleted"] += 1
        else:
            result.reported.append(Learner(row, cached))
    return result


def by_user(rows: Iterator[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["user_id"]].append(row)
    return grouped


# The hierarchy


def children(node: Row) -> list[Row]:
    found = node.get("children")
    return [child for child in found if isinstance(child, dict)] if isinstance(found, list) else []


def walk(node: Row) -> Iterator[Row]:
    """Visit a node and all below it, depth first."""
    yield node
    for child in children(node):
        yield from walk(child)


def dynamic_columns(tree: Row, options: Options) -> list[tuple[str, Row]]:
    """List ("Progress" or "Score", node) in the order of the hierarchy, each id once."""
    columns: list[tuple[str, Row]] = []
    seen: set[tuple[str, str]] = set()
    for node in walk(tree):
        if not node.get("identifier"):
            continue
        kinds = []
        if node is not tree and is_nested_collection(node):
            kinds.append("Progress")
        if is_assessment(node, options):
            kinds.append("Score")
        for kind in kinds:
            if (kind, node["identifier"]) not in seen:
                seen.add((kind, node["identifier"]))
                columns.append((kind, node))
    return columns


def is_nested_collection(node: Row) -> bool:
    return (
        node.get("mimeType") == COLLECTION
        and node.get("visibility") == "Default"
        and str(node.get("contentType") or "").lower() == "course"
    )


def is_assessment(node: Row, options: Options) -> bool:
    return node.get("contentType") in options.content_types or (
        node.get("objectType") in options.object_types and node.get("primaryCategory") in options.primary_categories
    )


def column_label(kind: str, node: Row, options: Options) -> str:
    if options.named_labels and node.get("name"):
        return f"{node['name']} ({node['identifier']}) - {kind}"
    return f"{node['identifier']} - {kind}"


def leaf_count(node: Row) -> int:
    """Give a node's own leafNodesCount; where that is missing or no count, the leaves below it by distinct id."""
    stated = node.get("leafNodesCount")
    if isinstance(stated, str) and re.fullmatch("[0-9]+", stated):
        return int(stated)
    if isinstance(stated, float) and stated.is_integer():
        stated = int(stated)  # JSON's 4.0 is its 4
    if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0:
        return stated
    return len({leaf["identifier"] for leaf in leaves_below(node) if leaf.get("identifier")})


def leaves_below(node: Row) -> Iterator[Row]:
    for child in children(node):
        mime_type = child.get("mimeType")
        is_leaf = mime_type != COLLECTION if mime_type else not children(child)
        if is_leaf:
            yield child
        else:
            yield from leaves_below(child)


def tree_contents(tree: Row) -> set[str]:
    """Give the ids of the tree's nodes other than collections."""
    found = set()
    for node in walk(tree):
        mime_type = node.get("mimeType")
        is_collection = mime_type == COLLECTION if mime_type else bool(children(node))
        if node is not tree and not is_collection and isinstance(node.get("identifier"), str):
            found.add(node["identifier"])
    return found


# Cells


def progress(enrolment: Row, tree: Row, optional: set[str], *, also_removed: bool = False) -> str:
    if enrolment.get("completedon") is not None:
        return "100"
    contents = tree_contents(tree)
    completed = 0
    for content_id, status in (enrolment.get("contentstatus") or {}).items():
        if status == 2 and content_id not in optional and (content_id in contents or also_removed):
            completed += 1
    return percent(Fraction(completed), leaf_count(tree))


def lern7_progress(enrolment: Row, tree: Row, optional: set[str]) -> str:
    """Round as the Spark job does: it divides and multiplies floats of 32 bits."""
    if enrolment.get("completedon") is not None:
        return "100"
    statuses = (enrolment.get("contentstatus") or {}).items()
    completed = len([content_id for content_id, status in statuses if status == 2 and content_id not in optional])
    leaves = leaf_count(tree)
    if completed >= leaves:
        return "100"
    return str(math.floor(float32(float32(completed / leaves) * 100) + 0.5))


def float32(value: float) -> float:
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    return float(rounded)


def nested_progress(rows: list[Row], node: Row) -> str:
    """Give a nested collection's progress from the user's aggregates of the batch."""
    for row in rows:
        if row["activity_id"] == node["identifier"]:
            for counts in (row.get("aggregates"), row.get("agg")):
                completed = (counts or {}).get("completedCount")
                if completed is not None and math.isfinite(completed):
                    return percent(Fraction(completed), leaf_count(node))
    return ""


def percent(completed: Fraction, leaves: int) -> str:
    """Round 100 x completed / leaves half up, into 0 to 100; no leaves, no progress."""
    if leaves == 0:
        return ""
    return str(max(0, min(100, math.floor(100 * completed / leaves + Fraction(1, 2)))))


def own_totals(rows: list[Row], collection: Row) -> dict[str, float]:
    """Give the aggregates of a user in the batch's own collection."""
    for row in rows:
        if row["activity_id"] == collection["identifier"]:
            return row.get("aggregates") or {}
    return {}


def any_score(attempts: list[Row], totals: dict[str, float], content_id: str, options: Options) -> float | None:
    """Give the score of the chosen attempt; without any attempt, the best score that the aggregates have kept."""
    if chosen_attempt(attempts, content_id, options):
        return chosen_score(attempts, content_id, options)
    score = totals.get(f"score:{content_id}")
    return float(score) if score is not None and math.isfinite(score) else None


def chosen_score(attempts: list[Row], content_id: str, options: Options) -> float | None:
    """Give the score of the user's chosen attempt at a content; None without an attempt, or if it has no score."""
    attempt = chosen_attempt(attempts, content_id, options)
    return None if attempt is None else attempt_score(attempt)


def chosen_attempt(attempts: list[Row], content_id: str, options: Options) -> Row | None:
    """Choose the user's attempt at a content."""
    mine = [attempt for attempt in attempts if attempt["content_id"] == content_id]
    if not mine:
        return None
    earliest = datetime.min.replace(tzinfo=UTC)

    def rank(attempt: Row) -> tuple[Any, ...]:
        score = attempt_score(attempt)
        last = attempt.get("last_attempted_on")
        when = (in_utc(last) if last is not None else earliest, attempt["attempt_id"])
        return (score is not None, score or 0.0, *when) if options.attempt == "best" else when

    return max(mine, key=rank)


def attempt_percent(attempt: Row) -> str:
    """Give 100 x a / b of a grand_total `a/b`, rounded up."""
    match = re.fullmatch(r"\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*/\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*", attempt.get("grand_total") or "")
    if not match or Fraction(match[2]) == 0:
        return ""
    return f"{math.ceil(100 * Fraction(match[1]) / Fraction(match[2]))}%"


def total_percent(attempts: list[Row]) -> str:
    """Give 100 x the sum of total_score / the sum of total_max_score, rounded up."""
    scores, most = (
        [Fraction(repr(float(row[name]))) for row in attempts if row.get(name) is not None and math.isfinite(row[name])]
        for name in ("total_score", "total_max_score")
    )
    return f"{math.ceil(100 * sum(scores) / sum(most))}%" if scores and sum(most) else ""


def board(value: str) -> str:
    """Give the first entry of a JSON list, else the text."""
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return str(found[0]) if isinstance(found, list) and found else value


def attempt_score(attempt: Row) -> float | None:
    score = attempt.get("total_score")
    if score is not None and math.isfinite(score):
        return float(score)
    before_slash = (attempt.get("grand_total") or "").split("/")[0].strip()
    if not is_plain_number(before_slash):
        return None
    score = float(before_slash)
    return score if math.isfinite(score) else None


def total(scores: list[float]) -> str:
    if not scores:
        return ""
    result = Decimal(0)
    for score in scores:
        result = EXACT.add(result, Decimal(repr(score)))
    return number(result)


def number(value: Decimal) -> str:
    """Print at most 4 decimals, half up, without trailing zeros or an exponent."""
    rounded = value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP, context=EXACT)
    shown = f"{rounded:f}".rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown


def certificate_status(enrolment: Row, options: Options) -> str:
    if enrolment.get("certificates") or enrolment.get("issued_certificates"):
        return "Issued"
    return "Failed" if enrolment.get("certstatus") in options.failed_certstatus else ""


def user_name(cached: dict[str, str]) -> str:
    parts = [cleaned(cached.get("firstname") or "").strip(), cleaned(cached.get("lastname") or "").strip()]
    return " ".join(part for part in parts if part)


# Dates


def enrolment_date(enrolment: Row, options: Options) -> str:
    if enrolment.get("enrolled_date") is not None:
        return timestamp(enrolment["enrolled_date"])
    parsed = parse_date(enrolment["enrolleddate"])
    return text(enrolment["enrolleddate"], options) if parsed is None else timestamp(parsed)


def day(moment: datetime | None, words: str, options: Options) -> str:
    """Print `25/08/2020`: of a timestamp in the report's zone, of a text by its first ten characters."""
    if moment is not None:
        found: datetime | None = in_utc(moment).astimezone(ZoneInfo(options.zone))
    else:
        found = parse_date(words[:10])
    return "" if found is None else f"{found.day:02d}/{found.month:02d}/{found.year:04d}"


def in_utc(moment: datetime) -> datetime:
    """Read a naive time, as the Cassandra driver returns it, as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def timestamp(moment: datetime) -> str:
    """Print `2020-08-25 13:45:54:150+0000`."""
    utc = in_utc(moment)
    day = f"{utc.year:04d}-{utc.month:02d}-{utc.day:02d}"
    return f"{day} {utc.hour:02d}:{utc.minute:02d}:{utc.second:02d}:{utc.microsecond // 1000:03d}+0000"


def parse_date(value: str) -> datetime | None:
    """Parse `YYYY-MM-DD[( |T)HH:MM[:SS[:fff|.f…]]][Z|+HHMM|+HH:MM]`, no zone meaning UTC; else None.

    After a colon stand milliseconds, after a point or a comma a fraction of a second, cut to milliseconds.
    """
    match = re.fullmatch(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
        r"(?:[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?::([0-9]{3})|[.,]([0-9]{1,9}))?)?)?"
        r"(Z|[+-][0-9]{2}:?[0-9]{2})?",
        value,
    )
    if not match:
        return None
    year, month, day, hour, minute, second, millis = (int(group or 0) for group in match.groups()[:7])
    if match.group(8):
        millis = int(Fraction(f"0.{match.group(8)}") * 1000)
    zone = match.group(9) or "Z"
    offset = timedelta()
    if zone != "Z":
        if int(zone[-2:]) > 59:
            return None
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:])) * (-1 if zone[0] == "-" else 1)
    try:
        local = datetime(year, month, day, hour, minute, second, millis * 1000, tzinfo=timezone(offset))
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# Text


def text(value: str | None, options: Options) -> str:
    return defused(cleaned(value or ""), options)


def cleaned(value: str) -> str:
    """Make a CR, LF or tab a space, drop other control characters, replace lone surrogates."""
    result = ""
    for character in value:
        if character in "\r\n\t":
            result += " "
        elif unicodedata.category(character) == "Cc":
            continue
        elif unicodedata.category(character) == "Cs":
            result += "\ufffd"
        else:
            result += character
    return result


def defused(value: str, options: Options) -> str:
    """Put an apostrophe before what a spreadsheet would run as a formula."""
    start = value
    while start and (start[0].isspace() or start[0] in "\ufeff\u200b"):
        start = start[1:]
    runs = start[:1] in list("=+-@\uff1d\uff0b\uff0d\uff20") and not is_plain_number(start)
    return "'" + value if runs and options.defuse else value


def is_plain_number(value: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", value) is not None


def quoted(cell: str) -> str:
    """Quote a cell where RFC 4180 needs it."""
    if any(character in cell for character in ',"\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def spark_quoted(cell: str) -> str:
    """Quote a cell as Spark's csv does by default: in quotes, a backslash stands before each quote and each backslash."""
    if cell == "" or "," in cell or '"' in cell:
        return '"' + "".join("\\" + character if character in '"\\' else character for character in cell) + '"'
    return cell
