"""Turn the text of the Variable into Settings, or into one error with every mistake."""

import difflib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from progress_exhaust.errors import SetupError
from progress_exhaust.report.layout import Layout, LayoutColumn
from progress_exhaust.settings.model import Settings
from progress_exhaust.settings.renamed import with_new_names

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

VARIABLE = "progress_exhaust"


def parse_settings(text: str | None) -> Settings:
    """Parse the text of the Variable; None or an empty text gives the defaults.

    Raise SetupError with every mistake: the setting, what is wrong and what is right.
    """
    if text is None or not text.strip():
        return Settings()
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SetupError(f"Variable {VARIABLE} is not valid JSON: {error}. Fix it under Admin, Variables") from None
    if not isinstance(values, dict):
        raise SetupError(f"Variable {VARIABLE} must be a JSON object of settings, not {type(values).__name__}")
    try:
        return Settings.model_validate(with_new_names(values, VARIABLE))
    except ValidationError as error:
        raise SetupError(f"Variable {VARIABLE}: " + "; ".join(_message(mistake) for mistake in error.errors())) from None


def valid_settings(text: str | None) -> Settings:
    """Return the settings of a Variable that has mistakes, with the default in place of each wrong one."""
    try:
        values = json.loads(text or "{}")
        return Settings.model_validate(_without_mistakes(with_new_names(values, VARIABLE)))
    except (ValueError, TypeError, AttributeError, RecursionError, SetupError):  # a ValidationError is a ValueError
        return Settings()


def _without_mistakes(values: dict[str, object]) -> dict[str, object]:
    try:
        Settings.model_validate(values)
    except ValidationError as error:
        wrong = {mistake["loc"][0] for mistake in error.errors() if mistake["loc"]}
        return {name: value for name, value in values.items() if name not in wrong}
    return values


def nearest(name: str, valid_names: Iterable[str]) -> str:
    """Return a hint for an unknown name: the valid name that is most like it, else all valid names."""
    names = sorted(valid_names)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(names)


def _message(mistake: "ErrorDetails") -> str:
    path = [str(part) for part in mistake["loc"]]
    where = ".".join(path)
    if mistake["type"] == "extra_forbidden":
        # layouts.<name>.<key>, or layouts.<name>.columns.<place>.<key>
        models: dict[int, type[BaseModel]] = {1: Settings, 3: Layout, 5: LayoutColumn}
        return f"unknown setting {where}; {nearest(path[-1], models[len(path)].model_fields)}"
    message = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
