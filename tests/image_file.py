"""deploy/image/Dockerfile as instructions."""

import re
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "deploy" / "image" / "Dockerfile"
_TEXT = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")
# Each with its text: ("RUN", "pip install …").
INSTRUCTIONS = [(line.partition(" ")[0], line.partition(" ")[2]) for line in _TEXT.splitlines() if line.strip()]
ARGUMENTS = dict(text.split("=", 1) for name, text in INSTRUCTIONS if name == "ARG")
