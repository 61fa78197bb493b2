"""Progress exhaust: the csv of every learner's progress and scores for a course batch, made by Airflow."""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def read_report(path: str | PathLike[str], password: str | None = None) -> "pandas.DataFrame":
    """Return the rows of a report as a pandas DataFrame: ids and names as text, dates as timestamps, scores as numbers.

    A blank cell is `<NA>` in a column of text, `NaT` in one of dates, and `NaN` in one of numbers. A date that the platform has
    stored in an unusual form is `NaT`, too. The kinds of the columns come from the description in the package or workbook. For a
    csv without it, they are those of the built-in layouts; other columns are text.

    :param path: a package, or the csv or workbook in it, of any security level
    :param password: a password, the text that was given with the request, or an org's private key in PEM form
    :raises InputError: the file cannot be read, or the password does not open it
    """
    # Imported here: Airflow imports this package often, and pandas takes a second.
    from pathlib import Path

    from progress_exhaust.reading.data_frame import load_report

    return load_report(Path(path), password)
