"""The manifests of a batch: small JSON files in its staging folder.

A stage writes its manifest last: if the manifest is there, the stage is done.
A manifest of another version of the package that no longer fits counts as missing.
"""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, field_serializer

from progress_exhaust.report.hierarchy import Hierarchy
from progress_exhaust.report.request import BatchFacts


def _check_below(path: str) -> str:
    """Refuse a path that leads out of its folder: another program may have written the manifest."""
    if path and not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError("the path leads to another folder")
    return path


Below = Annotated[str, AfterValidator(_check_below)]


class Manifest(BaseModel):
    """A manifest; each kind has its own file in the batch's folder."""

    model_config = ConfigDict(frozen=True)
    FILE_NAME: ClassVar[str]


class BatchManifest(Manifest):
    """What list_batches found out about the batch."""

    FILE_NAME = "batch.json"

    facts: BatchFacts


class _WithHierarchy(BaseModel):
    model_config = ConfigDict(frozen=True)

    hierarchy: Hierarchy

    @field_serializer("hierarchy")
    def _sorted(self, hierarchy: Hierarchy) -> dict[str, Any]:
        return hierarchy.to_dict()  # sets in a fixed order: the same hierarchy gives the same bytes


class HierarchyManifest(Manifest, _WithHierarchy):
    """What the report needs of the collection's hierarchy."""

    FILE_NAME = "hierarchy.json"


class SharedHierarchy(_WithHierarchy):
    """A hierarchy that all batches of a run with this collection share."""

    as_of: AwareDatetime


class ExtractInputs(_WithHierarchy):
    """What the extracted files depend on, in addition to the sources: if it changes, they are extracted again."""

    enrolments: str  # of the layout: active, or all
    learners: str  # of the layout: all, or cached
    user_fields: tuple[str, ...]
    nested_progress: bool  # of the layout: whether it shows that
    removed_contents: str  # of the layout, as the next two
    archived_scores: str
    blank_dates: str
    scores_from: str = "attempts"  # of the settings, as the next one; an extract of an earlier version has no other
    user_source: str = "redis"

    @property
    def nested_ids(self) -> list[str]:
        """The nested collections whose progress is read."""
        return self.hierarchy.nested_ids if self.nested_progress else []


class ChunksManifest(Manifest):
    """The enrolled chunks of an extract that goes on."""

    FILE_NAME = "chunks.json"

    as_of: AwareDatetime  # when the enrolments were read
    inputs: ExtractInputs
    first_user_ids: tuple[str, ...]  # of each chunk, ascending
    counts: dict[str, int]  # enrolled, inactive, and excluded.<reason>


class RestartManifest(Manifest):
    """An extract that had finished was started again: older scans are not used for it."""

    FILE_NAME = "restart.json"

    restarted_at: AwareDatetime


class ExtractManifest(Manifest):
    """The facts chunks of a finished extract."""

    FILE_NAME = "extract.json"

    as_of: AwareDatetime
    inputs: ExtractInputs
    chunks: int
    counts: dict[str, int]  # enrolled, inactive, reported, missing, excluded.<reason>, and CONTENT_COUNTS


class WorkbookFile(BaseModel):
    """The workbook of a report that also has a csv."""

    model_config = ConfigDict(frozen=True)

    name: Below
    size_bytes: int
    sha256: str


class PivotManifest(Manifest):
    """The report's file, csv or workbook; or both."""

    FILE_NAME = "pivot.json"

    rows: int
    size_bytes: int
    sha256: str
    cut_cells: int  # of a workbook: their texts are longer than Excel accepts
    folder: Below  # of the task attempt that wrote it
    file_name: Below
    workbook: WorkbookFile | None = None  # in addition to the csv; the manifest of an earlier version has none
    columns_name: Below | None = None
    summary_name: Below | None


class PackageManifest(Manifest):
    """The package, published unless the run is a dry run."""

    FILE_NAME = "package.json"

    key: str  # in the reports container
    size_bytes: int
    level: str
    sha256: str | None = None  # a package of an earlier version has none


class UndeletedFolders(Manifest):
    """What should be deleted in the folder of a run, but could not be. It is in that folder."""

    FILE_NAME = "undeleted.json"

    folders: frozenset[Below]  # below the folder of the run; an empty text is the whole folder
