"""A layout lists the columns of a report and how they are written (specification, "Columns"). A site can add layouts.

This module imports no frames, because the settings contain layouts. `columns.py` makes the cells.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from progress_exhaust.report.options import ColumnLabels, OutputFormat, ScoreFormat

USER = "user."  # prefix of the fields of the user cache
CONTACT = re.compile(  # names of contact fields, which are never read
    r"mail|phone|mobile|contact|recovery|whats_?app|telegram|skype|msisdn|fax|landline|login_?id|user_?name|address"
    r"|mob(?:_|no|num|$)|alt(?:ernate)?_?(?:no|num)|(?:^|_)(?:tel|cell|cellular|ph|wa)(?:_|no|num|$)",
    re.IGNORECASE,
)
DATES = ("enrolment_date", "completion_date")
FIRST = "first"  # format of a field that holds a JSON list
EXCEL_TEXT = "excel_text"  # format of an id, or of a field of the user cache: Excel does not take it for a number
IDS = ("collection_id", "batch_id", "user_id")
PROGRESS_ENDING, SCORE_ENDING = " - Progress", " - Score"  # of the labels of the hierarchy's columns
STANDARD_DATE = "yyyy-MM-dd HH:mm:ss:SSS+0000"
DATE_LETTERS = re.compile("yyyy|MM|dd|HH|mm|ss|SSS")
APOSTROPHE = "with an apostrophe, so that Excel reads text"  # what EXCEL_TEXT does
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON may have it as an escape, but UTF-8 cannot hold it
# The fields that are not in the user cache. docs/reference/columns.md describes them.
FIELDS = (
    *("collection_id", "collection_name", "batch_id", "batch_name", "user_id", "user_name", *DATES, "enrolment_status"),
    *("progress", "certificate_status", "certificate_issued", "total_score", "max_score", "attempts"),
)

Text = Annotated[str, StringConstraints(min_length=1)]


class LayoutColumn(BaseModel):
    """One column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Text
    field: str = ""  # if it is missing, the error lists the known fields
    format: str | None = None  # of a date, a score, an id, or a field of the user cache
    prefix: str = ""  # added before each cell that is not blank

    @property
    def user_field(self) -> str | None:
        """The name of the field of the user cache that this column shows, or None."""
        return self.field.removeprefix(USER) if self.field.startswith(USER) else None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if CONTROL.search(self.label) or self.label != self.label.strip():  # two such labels could look the same
            raise ValueError(f"column {self.label!r}: the label starts or ends with a blank, or has a control character")
        if self.label.endswith((PROGRESS_ENDING, SCORE_ENDING)):
            raise ValueError(
                f"column {self.label!r}: only labels of nested collections and assessments may end with {PROGRESS_ENDING!r} and "
                f"{SCORE_ENDING!r}"
            )
        user_field = self.user_field
        if user_field is None and self.field not in FIELDS:
            raise ValueError(
                f"column {self.label!r}: there is no field {self.field!r}. There are {', '.join(FIELDS)}, and {USER}<name> "
                "for each field of the user cache except contact fields"
            )
        if user_field is not None and (not re.fullmatch(r"[A-Za-z0-9_]+", user_field) or CONTACT.search(user_field)):
            raise ValueError(f"column {self.label!r}: {user_field!r} is a contact field, which is never read, or is not a name")
        for name, value in (("prefix", self.prefix), ("format", self.format or "")):  # pydantic checks the other values
            if SURROGATE.search(value):
                raise ValueError(f"column {self.label!r}: {name} {value!r} is not valid text: it has half a character")
        if self.format is not None and self.field in DATES:
            mistake = _mistake_in_date(self.format)
            if mistake:
                raise ValueError(f"{self._unfit()}: {mistake}. {self._formats()}")
        elif self.format is not None and not self._format_fits(self.format):
            raise ValueError(f"{self._unfit()}. {self._formats()}")
        return self

    def _format_fits(self, chosen: str) -> bool:
        if self.user_field:
            return chosen in (FIRST, EXCEL_TEXT)
        return chosen == EXCEL_TEXT if self.field in IDS else self.field == "total_score" and chosen in tuple(ScoreFormat)

    def _unfit(self) -> str:
        return f"column {self.label!r}: format {self.format!r} does not fit {self.field}"

    def _formats(self) -> str:
        if self.field in DATES:
            return "A date format has yyyy, MM, dd, HH, mm, ss, SSS and signs, such as dd/MM/yyyy"
        if self.user_field:
            return f"The format may be {FIRST} (the first entry of a JSON list) or {EXCEL_TEXT} ({APOSTROPHE})"
        if self.field in IDS:
            return f"The format may be {EXCEL_TEXT} ({APOSTROPHE})"
        return f"The format may be {' or '.join(ScoreFormat)}" if self.field == "total_score" else "This field has no format"


@cache
def is_time_zone(name: str) -> bool:
    """Return whether this is the name of an IANA time zone that Arrow supports too. zoneinfo accepts more names."""
    return name == "UTC" or (name in available_timezones() and name not in ("Factory", "localtime"))


def _mistake_in_date(pattern: str) -> str | None:
    """Return what is wrong with a date format, or None."""
    letters = DATE_LETTERS.findall(pattern)
    unknown = re.search("[A-Za-z]+", DATE_LETTERS.sub(" ", pattern))
    twice = [one for one in letters if letters.count(one) > 1]
    if CONTROL.search(pattern):
        return "it has a control character"
    if unknown:
        return f"{unknown[0]} is unknown"
    if not letters:
        return "it has none of these letters"
    if twice:
        return f"{twice[0]} occurs twice"
    if "mm" in letters and "HH" not in letters:
        return "mm is the minute and needs HH (MM is the month)"
    return None


class Layout(BaseModel):
    """All columns of a report, and how its file is written.

    `like` names a built-in layout. Its values are the defaults of this layout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[LayoutColumn, ...]
    # The columns of the hierarchy's nodes, after the other columns.
    nested_progress: bool = True  # a column for each nested collection
    scores: Literal["every", "attempted", "none"] = (
        "every"  # a column for each assessment, or for those that a reported learner attempted
    )
    score_format: ScoreFormat = ScoreFormat.POINTS
    order: Literal["tree", "id"] = "tree"
    own_labels: ColumnLabels | None = None  # None: the setting column_labels decides
    enrolments: Literal["active", "all"] = "active"  # all: inactive ones too
    learners: Literal["all", "cached"] = "all"  # cached: only learners who are in the user cache
    trimmed: bool = False  # texts without blanks at their start and end
    removed_contents: Literal["excluded", "counted"] = "excluded"  # from progress: completed contents that left the tree
    archived_scores: Literal["shown", "blank"] = "shown"  # scores whose attempts were archived, from the aggregates
    blank_dates: Literal["excluded", "kept"] = "excluded"  # enrolments whose only date is an empty or blank text
    no_leaf_count: Literal["counted", "100"] = "counted"  # progress if the root of the tree does not state a leaf count
    progress_precision: Literal["exact", "float32"] = "exact"  # float32: as the Spark job calculates
    time_zone: str = "UTC"  # of timestamps; report: the setting report_timezone decides
    text_dates: Literal["parsed", "day"] = "parsed"  # day: from the first ten characters, in no time zone
    # The files of the package. None: the setting of the same name decides.
    output_format: OutputFormat | None = None
    columns_file: bool | None = None
    # The dialect of a csv. A workbook has none.
    delimiter: Literal[",", ";", "\t", "|"] = ","
    decimal_sign: Literal[".", ","] = "."
    line_end: Literal["CRLF", "LF"] = "CRLF"
    quoting: Literal["rfc4180", "spark"] = "rfc4180"  # spark: `\"` and `\\` inside quotes, `""` for a blank
    bom: bool | None = None  # None: the setting csv_bom decides

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
            raise ValueError(f"like: there is no built-in layout {values['like']!r}. There are {', '.join(BUILT_IN_VALUES)}")
        return base | {key: value for key, value in values.items() if key != "like"}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.columns:  # the type cannot check this: it counts a column with a mistake as missing
            raise ValueError("columns: there must be at least one")
        labels = [column.label for column in self.columns]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two columns have the label {label!r}")
        if self.decimal_sign == self.delimiter:
            raise ValueError(f"decimal_sign {self.decimal_sign!r} is also the delimiter. Set another delimiter, such as ';'")
        if self.time_zone != "report" and not is_time_zone(self.time_zone):
            raise ValueError(f"time_zone {self.time_zone!r} is not an IANA time zone, such as Asia/Kolkata, and not report")
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
    # The report of Sunbird Lern's own job since release 7, cell by cell.
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
        "removed_contents": "counted",
        "archived_scores": "blank",
        "blank_dates": "kept",
        "no_leaf_count": "100",
        "progress_precision": "float32",
        "time_zone": "report",
        "text_dates": "day",
        "output_format": "csv",  # its readers expect the csv alone
        "columns_file": False,
        "line_end": "LF",
    },
}
BUILT_IN = {name: Layout.model_validate(values) for name, values in BUILT_IN_VALUES.items()}
