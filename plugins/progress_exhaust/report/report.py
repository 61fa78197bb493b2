"""The values that all chunks of a report share. They are plain data, so that other processes can receive them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from progress_exhaust.report.hierarchy import Hierarchy
from progress_exhaust.report.layout import Layout
from progress_exhaust.report.options import ChosenAttempt, ColumnLabels
from progress_exhaust.report.request import Batch, BatchFacts


@dataclass(frozen=True)
class CellRules:
    """The settings that decide the text of a cell."""

    chosen_attempt: ChosenAttempt
    failed_certificate_statuses: tuple[int, ...]
    column_labels: ColumnLabels
    defuse_formulas: bool
    report_timezone: str


@dataclass(frozen=True)
class Report:
    """A report of one batch: what it is about, its columns, and the rules for its cells."""

    batch: Batch
    facts: BatchFacts
    hierarchy: Hierarchy
    layout: Layout
    rules: CellRules
    attempted: frozenset[str] = frozenset()  # contents that a reported learner attempted, if the layout asks for it
    # By content: the greatest maximum score of its attempts, if the columns are described.
    max_scores: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def time_zone(self) -> str:
        zone = self.layout.time_zone
        return self.rules.report_timezone if zone == "report" else zone
