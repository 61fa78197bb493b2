"""Types of settings that have a pattern, and the mark of the main settings."""

from typing import Annotated

from pydantic import JsonValue, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
TableName = Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_]*\.)?[A-Za-z_][A-Za-z0-9_]*$")]
KeyspaceTable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*$")]
StoreUrl = Annotated[str, StringConstraints(pattern=r"^(file|s3|abfs|abfss|gs)://.+")]  # docs/how-to/connect-a-store.md
LayoutName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+(:[0-9]+)?$", to_lower=True)]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/")]
EncryptionKey = Annotated[str, StringConstraints(pattern=r"^[ -~]{16}$")]

# The settings that a site should look at. The table in docs/reference/settings.md lists all others as advanced.
MAIN: dict[str, JsonValue] = {"advanced": False}
