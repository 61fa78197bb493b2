"""The choices that a site has for its reports. Light: the settings import them."""

from enum import StrEnum


class ChosenAttempt(StrEnum):
    """Which assessment attempt of a learner counts."""

    BEST = "best"  # by its score
    LATEST = "latest"  # by its date


class ColumnLabels(StrEnum):
    """How the columns of nested collections and assessments are labelled."""

    ID = "id"  # <id> - Score
    NAME = "name"  # <name> (<id>) - Score


class OutputFormat(StrEnum):
    """The files of the report in the package."""

    CSV = "csv"
    XLSX = "xlsx"
    BOTH = "both"

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of their names; the csv comes first."""
        return (self.CSV, self.XLSX) if self is OutputFormat.BOTH else (self,)


class ScoreFormat(StrEnum):
    """How a score is written."""

    POINTS = "points"
    PERCENT = "percent"
