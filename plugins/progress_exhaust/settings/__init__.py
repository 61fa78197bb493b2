"""The settings of a site: the JSON Variable `progress_exhaust`, validated.

- model: every setting with its default and its meaning
- renamed: the earlier names of settings, which still work
- parsing: the text of the Variable becomes Settings
"""

from progress_exhaust.settings.model import Settings
from progress_exhaust.settings.parsing import VARIABLE, nearest, parse_settings, valid_settings

__all__ = ["VARIABLE", "Settings", "nearest", "parse_settings", "valid_settings"]
