"""Settings that decide what a report contains."""

from typing import Literal, Self

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from progress_exhaust.errors import SetupError
from progress_exhaust.report.layout import BUILT_IN, Layout, is_time_zone
from progress_exhaust.report.options import ChosenAttempt, ColumnLabels, OutputFormat
from progress_exhaust.settings.field_types import MAIN, LayoutName


class ReportContents(BaseModel):
    """Layout, file format, and the rules for the cells."""

    layouts: dict[LayoutName, Layout] = Field(
        {}, description="Additional layouts of the site, by name. See docs/how-to/change-the-columns.md."
    )
    layout: str = Field(
        "standard",
        description="Columns of the report: `standard`, `sunbird-lern-7` or a name from `layouts`.",
        json_schema_extra=MAIN,
    )
    output_format: OutputFormat = Field(
        OutputFormat.CSV,
        description="Report in the package: `csv`, `xlsx` for an Excel workbook, or `both`. For more than 1,048,575 learners or "
        "16,384 columns, there is only a csv.",
    )
    dynamic_column_labels: ColumnLabels = Field(
        ColumnLabels.ID, description="Labels of the dynamic columns: `<id> - Score`, or `<name> (<id>) - Score`."
    )
    report_timezone: str = Field("Asia/Kolkata", description="Time zone of the date in the file name of a report.")
    scored_attempt: ChosenAttempt = Field(
        ChosenAttempt.BEST, description="The assessment attempt whose score is reported, if a learner has several."
    )
    scores_from: Literal["attempts", "aggregates"] = Field(
        "attempts",
        description="Where scores come from: `attempts` are the rows of assessment_aggregator. `aggregates` reads one row of "
        "user_activity_agg per learner, which has the best scores only.",
    )
    assessment_content_types: tuple[str, ...] = Field(
        ("SelfAssess",), description="Values of contentType that make a content an assessment."
    )
    assessment_object_types: tuple[str, ...] = Field(
        ("QuestionSet",),
        description="Values of objectType that make a content an assessment. `assessment_categories` must match, too.",
    )
    assessment_categories: tuple[str, ...] = Field(
        ("Practice Question Set",),
        description="Values of primaryCategory that make a content an assessment. `assessment_object_types` must match, too.",
    )
    failed_certificate_statuses: tuple[int, ...] = Field(
        (2,), description="Values of certstatus that mean: the certificate could not be issued."
    )
    csv_bom: bool = Field(False, description="Start the csv with a byte order mark. Excel needs it to detect UTF-8.")
    escape_formulas: bool = Field(
        True, description="Put an apostrophe in front of a value that a spreadsheet would run as a formula."
    )
    columns_file: bool = Field(
        False,
        description="Add `columns_<batch id>_<date>.csv` to the package. It describes each column: id, name, kind, maximum "
        "score, meaning of a blank. A workbook always has this as its second sheet.",
    )
    summary_file: bool = Field(
        False,
        description="Add `summary_<batch id>_<date>.txt` to the package: date of the data, numbers of enrolled, reported and "
        "excluded learners, meaning of the columns. TEXT_KEY and PUBLIC_KEY have neither of these two files, because they would "
        "not be encrypted.",
    )
    max_missing_users_percent: float = Field(
        20,
        ge=0,
        le=100,
        description="Largest share of a batch's learners that may be missing from the user cache. If more are missing, extract "
        "fails and is retried. Applies to batches of more than 100 learners.",
    )

    def layout_named(self, name: str) -> Layout:
        """Return the layout with this name.

        For another name, raise SetupError that lists the layouts; also for a layout that shows no score of the aggregates if
        all scores come from there.
        """
        try:
            layout = _find_layout(name, BUILT_IN | self.layouts)
        except ValueError as error:
            raise SetupError(str(error)) from None
        if self.scores_from == "aggregates" and layout.archived_scores == "blank":
            raise SetupError(
                f"Layout {name} shows no scores of the aggregates (its key archived_scores is blank), and scores_from is "
                "aggregates. Choose another layout, or set scores_from to attempts in the Variable progress_exhaust"
            )
        return layout

    @model_validator(mode="after")
    def _check_scores(self) -> Self:
        if self.scores_from == "aggregates" and self.scored_attempt != ChosenAttempt.BEST:
            raise ValueError("scores_from: the aggregates have best scores only. Set scored_attempt to best")
        try:
            self.layout_named(self.layout)
        except SetupError as error:
            raise ValueError(str(error)) from None
        return self

    @field_validator("layouts")
    @classmethod
    def _check_layout_names(cls, layouts: dict[str, Layout]) -> dict[str, Layout]:
        for name in layouts:
            if name in BUILT_IN:
                raise ValueError(f"{name} is a built-in layout. To extend it, choose another name and set like: {name}")
        return layouts

    @field_validator("layout")
    @classmethod
    def _check_layout(cls, name: str, values: ValidationInfo) -> str:
        if "layouts" in values.data:  # missing if the layouts have mistakes of their own
            _find_layout(name, BUILT_IN | values.data["layouts"])
        return name

    @field_validator("report_timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        if not is_time_zone(name):
            raise ValueError("is not an IANA time zone, such as Asia/Kolkata")
        return name


def _find_layout(name: str, layouts: dict[str, Layout]) -> Layout:
    if name not in layouts:
        raise ValueError(f"there is no layout {name!r}; there are {', '.join(layouts)}. The setting layouts can add more")
    return layouts[name]
