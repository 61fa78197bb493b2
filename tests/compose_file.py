"""docker-compose.yaml as a text, and the secrets that the command at its head makes."""

import re
import subprocess
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "docker-compose.yaml"
TEXT = FILE.read_text()


def made_environment(folder: Path) -> dict[str, str]:
    """Run the head's command in a folder; return what it wrote to .env."""
    [script] = re.findall(r"^#   (\(umask .*?\))$", TEXT, re.MULTILINE | re.DOTALL)
    subprocess.run(["bash", "-euc", script.replace("\n#", "\n")], cwd=folder, check=True)
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())
