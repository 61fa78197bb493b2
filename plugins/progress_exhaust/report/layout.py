"""A layout: which columns a report has and how they are written, as data that a site may add to (specification, "Columns").

Light on purpose: the settings hold layouts, and they are read where no frame is loaded. `columns.py` makes the cells.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

USER = "user."  # before the name of a field of the user cache
CONTACT = re.compile(  # never read, whatever the cache calls it
    r"mail|phone|mobile|contact|recovery|whats_?app|telegram|skype|msisdn|fax|landline|login_?id|user_?name|address"
    r"|mob(?:_|no|num|$)|alt(?:ernate)?_?(?:no|num)|(?:^|_)(?:tel|cell|cellular|ph|wa)(?:_|no|num|$)",
    re.IGNORECASE,
)
DATES = ("enrolment_date", "completion_date")
POINTS, PERCENT, FIRST = "points", "percent", "first"
PROGRESS_ENDING, SCORE_ENDING = " - Progress", " - Score"  # of the labels of the collection's own columns
STANDARD_DATE = "yyyy-MM-dd HH:mm:ss:SSS+0000"
DATE_LETTERS = re.compile("yyyy|MM|dd|HH|mm|ss|SSS")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, as JSON may have one escaped: no UTF-8 can hold it
# The fields that are not the user cache's; what each means stands in docs/layouts.md.
FIELDS = (
    *("collection_id", "collection_name", "batch_id", "batch_name", "user_id", "user_name", *DATES),
    *("progress", "certificate_status", "certificate_issued", "total_score"),
)

Text = Annotated[str, StringConstraints(min_length=1)]


class LayoutColumn(BaseModel):
    """One column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Text
    field: str = ""  # left out: told with those that there are
    format: str | None = None  # of a date, a score, or a field of the user cache that holds a list
    prefix: str = ""  # before each cell that is not blank

    @property
    def user_field(self) -> str | None:
        """The field of the user cache that this column shows, if it does."""
        return self.field.removeprefix(USER) if self.field.startswith(USER) else None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if CONTROL.search(self.label) or self.label != self.label.strip():  # two such labels might be written alike
            raise ValueError(f"column {self.label!r}: its label has blanks around it, or a control character")
        if self.label.endswith((PROGRESS_ENDING, SCORE_ENDING)):
            raise ValueError(
                f"column {self.label!r}: {PROGRESS_ENDING!r} and {SCORE_ENDING!r} end the labels of nested collections and "
                "assessments alone"
            )
        user_field = self.user_field
        if user_field is None and self.field not in FIELDS:
            raise ValueError(
                f"column {self.label!r}: there is no field {self.field!r}; there are {', '.join(FIELDS)}, and {USER}<name> "
                "for each field of the user cache but contact fields"
            )
        if user_field is not None and (not re.fullmatch(r"[A-Za-z0-9_]+", user_field) or CONTACT.search(user_field)):
            raise ValueError(f"column {self.label!r}: {user_field!r} is a contact field, or no name of a field: it is never read")
        for name, value in (("prefix", self.prefix), ("format", self.format or "")):  # pydantic looks at the others
            if SURROGATE.search(value):
                raise ValueError(f"column {self.label!r}: {name} {value!r} is no text: it has half a character")
        if self.format is not None and self.field in DATES:
            mistake = _mistake_in_date(self.format)
            if mistake:
                raise ValueError(f"{self._unfit()}: {mistake}; {self._formats()}")
        elif self.format is not None and not self._format_fits(self.format):
            raise ValueError(f"{self._unfit()}; {self._formats()}")
        return self

    def _format_fits(self, chosen: str) -> bool:
        return chosen in ((FIRST,) if self.user_field else (POINTS, PERCENT) if self.field == "total_score" else ())

    def _unfit(self) -> str:
        return f"column {self.label!r}: format {self.format!r} does not fit {self.field}"

    def _formats(self) -> str:
        if self.field in DATES:
            return "a date is made of yyyy, MM, dd, HH, mm, ss, SSS and signs, such as dd/MM/yyyy"
        if self.user_field:
            return f"it may have {FIRST}: of a list in JSON, the first entry"
        return f"it may have {POINTS} or {PERCENT}" if self.field == "total_score" else "it has none"


@cache
def is_time_zone(name: str) -> bool:
    """Tell whether this names an IANA time zone that Arrow knows, too; zoneinfo alone takes more of the system's files."""
    return name == "UTC" or (name in available_timezones() and name not in ("Factory", "localtime"))


def _mistake_in_date(pattern: str) -> str | None:
    """Say what is wrong with a date's format, if anything is."""
    letters = DATE_LETTERS.findall(pattern)
    unknown = re.search("[A-Za-z]+", DATE_LETTERS.sub(" ", pattern))
    twice = [one for one in letters if letters.count(one) > 1]
    if CONTROL.search(pattern):
        return "it has a control character"
    if unknown:
        return f"{unknown[0]} is not known"
    if not letters:
        return "it has none of the letters"
    if twice:
        return f"{twice[0]} is there twice"
    if "mm" in letters and "HH" not in letters:
        return "mm is the minute, and it has no HH (MM is the month)"
    return None


class Layout(BaseModel):
    """All columns of a report, and how its file is written.

    `like` names a built-in layout whose values count where none are given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[LayoutColumn, ...]
    # The collection's own columns, after the others.
    nested_progress: bool = True  # one for each nested collection
    scores: Literal["every", "attempted", "none"] = "every"  # one for each assessment, or for those that a reported learner tried
    score_format: Literal["points", "percent"] = "points"
    order: Literal["tree", "id"] = "tree"
    own_labels: Literal["id", "name"] | None = None  # None: as the setting column_labels says
    learners: Literal["all", "cached"] = "all"  # cached: without those whom the user cache lacks
    trimmed: bool = False  # text without the blanks around it
    no_leaf_count: Literal["counted", "100"] = "counted"  # progress where the tree's root states no leaf count
    time_zone: str = "UTC"  # of timestamps; report: the setting report_timezone
    text_dates: Literal["parsed", "day"] = "parsed"  # day: by its first ten characters, in no zone, blank if that is no date
    line_end: Literal["CRLF", "LF"] = "CRLF"
    quoting: Literal["rfc4180", "spark"] = "rfc4180"  # spark: `\"` and `\\` inside quotes, `""` for a blank
    bom: bool | None = None  # None: as the setting csv_bom says

    @property
    def user_fields(self) -> tuple[str, ...]:
        """The fields of the user cache that the columns show."""
        fields: dict[str, None] = {}
        for column in self.columns:
            if column.field == "user_name":
                fields |= dict.fromkeys(("firstname", "lastname"))
            elif column.user_field:
                fields[column.user_field] = None
        return tuple(fields)

    @model_validator(mode="before")
    @classmethod
    def _like(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "like" not in values:
            return values
        base = BUILT_IN_VALUES.get(values["like"]) if isinstance(values["like"], str) else None
        if base is None:
            raise ValueError(f"like: there is no built-in layout {values['like']!r}; there are {', '.join(BUILT_IN_VALUES)}")
        return base | {key: value for key, value in values.items() if key != "like"}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.columns:  # not by the type, which takes a column with a mistake for none
            raise ValueError("columns: there must be at least one")
        labels = [column.label for column in self.columns]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two columns have the label {label!r}")
        if self.time_zone != "report" and not is_time_zone(self.time_zone):
            raise ValueError(f"time_zone {self.time_zone!r} is no IANA time zone, such as Asia/Kolkata, and not report")
        return self


BUILT_IN_VALUES: dict[str, dict[str, Any]] = {
    "standard": {
        "columns": [
            {"label": "Collection Id", "field": "collection_id"},
            {"label": "Collection Name", "field": "collection_name"},
            {"label": "Batch Id", "field": "batch_id"},
            {"label": "Batch Name", "field": "batch_name"},
            {"label": "User UUID", "field": "user_id"},
            {"label": "User Name", "field": "user_name"},
            {"label": "State", "field": "user.state"},
            {"label": "District", "field": "user.district"},
            {"label": "Enrolment Date", "field": "enrolment_date"},
            {"label": "Completion Date", "field": "completion_date"},
            {"label": "Progress", "field": "progress"},
            {"label": "Certificate Status", "field": "certificate_status"},
            {"label": "Total Score", "field": "total_score"},
        ],
    },
    # What Sunbird Lern's own job writes since release 7, cell by cell.
    "sunbird-lern-7": {
        "columns": [
            {"label": "Declared Board", "field": "user.framework_board", "format": "first"},
            {"label": "Batch Id", "field": "batch_id", "prefix": "BatchId_"},
            {"label": "State", "field": "user.state"},
            {"label": "User UUID", "field": "user_id"},
            {"label": "Progress", "field": "progress"},
            {"label": "Org Name", "field": "user.orgname"},
            {"label": "Cluster Name", "field": "user.cluster"},
            {"label": "User Type", "field": "user.usertype"},
            {"label": "Block Name", "field": "user.block"},
            {"label": "School Name", "field": "user.schoolname"},
            {"label": "User Sub Type", "field": "user.usersubtype"},
            {"label": "Collection Name", "field": "collection_name"},
            {"label": "Collection Id", "field": "collection_id"},
            {"label": "Completion Date", "field": "completion_date", "format": "dd/MM/yyyy"},
            {"label": "Certificate Status", "field": "certificate_issued"},
            {"label": "District", "field": "user.district"},
            {"label": "School Id", "field": "user.schooludisecode"},
            {"label": "Batch Name", "field": "batch_name"},
            {"label": "Enrolment Date", "field": "enrolment_date", "format": "dd/MM/yyyy"},
            {"label": "Total Score", "field": "total_score", "format": "percent"},
        ],
        "nested_progress": False,
        "scores": "attempted",
        "score_format": "percent",
        "order": "id",
        "own_labels": "id",
        "learners": "cached",
        "trimmed": True,
        "no_leaf_count": "100",
        "time_zone": "report",
        "text_dates": "day",
        "line_end": "LF",
    },
}
BUILT_IN = {name: Layout.model_validate(values) for name, values in BUILT_IN_VALUES.items()}
