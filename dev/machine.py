"""What the machine provides: free ports, and the programs that come from Debian packages.

The rule: as root, what is missing is installed, and no system service of it is left running; else the message says what
to install, and nothing is changed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

COMMAND_PACKAGES = {
    "redis-server": "redis-server",
    "postgres": "postgresql",
    "mvn": "maven",
    "unzip": "unzip",
    "7z": "p7zip-full",
    "openssl": "openssl",
}


class ServiceError(Exception):
    """What keeps a service from running, and what to do about it."""


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Tell whether the port of an address of this machine is free."""
    with socket.socket() as probe:
        # As the servers do it: connections of the last run that are still winding down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def find_java(cassandra: str = "5.0") -> Path | None:
    """Return a java that this version of Cassandra runs on: 8 for 3.11, 11 for 4.0 and 4.1, else 11 or 17.

    JAVA_HOME, JAVA_HOME_8_X64 and JAVA_HOME_11_X64 name folders to look in first.
    """
    wanted = {"3": r"1\.8", "4": "11"}.get(cassandra.partition(".")[0], "1[17]")
    named = (os.environ.get(name) for name in ("JAVA_HOME", "JAVA_HOME_8_X64", "JAVA_HOME_11_X64"))
    homes = [*map(Path, filter(None, named)), *sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)]
    candidates = [*(home / "bin" / "java" for home in homes), Path(shutil.which("java") or "/usr/bin/java")]
    for java in filter(Path.exists, candidates):
        version = subprocess.run([java, "-version"], check=False, capture_output=True, text=True).stderr
        if re.search(rf'version "{wanted}\b', version):
            return java
    return None


def find_postgres() -> Path | None:
    """Return the folder of Postgres's binaries: from PATH, else Debian's newest."""
    if (found := shutil.which("postgres")) and shutil.which("initdb"):
        return Path(found).parent
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(folders, key=lambda path: float(path.parent.name), default=None)


def install_packages() -> None:
    """Install the Debian packages that are missing, as root; else say which."""
    present = {command: shutil.which(command) for command in COMMAND_PACKAGES} | {"postgres": find_postgres()}
    packages = [package for command, package in COMMAND_PACKAGES.items() if not present[command]]
    if find_java() is None:
        packages.append("openjdk-17-jre-headless")
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServiceError(
            f"Missing programs. On Debian: sudo apt-get install {' '.join(packages)}"
            " (elsewhere: Postgres 12 or later, Redis 5 or later, java 11 or 17, Maven)"
        )
    apt_install(packages)
    if "redis-server" in packages and shutil.which("systemctl"):
        succeeds("systemctl", "disable", "--now", "redis-server")


def install_chromium() -> None:
    """Install the browser that the tests of the page drive, as root; else say what to install. No service needs it."""
    if shutil.which("chromium"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServiceError("No chromium. On Debian: sudo apt-get install chromium fonts-dejavu-core")
    apt_install(["chromium", "fonts-dejavu-core"])


def install_promtool() -> None:
    """Install Prometheus, whose tool tests the alerts, as root; else say what to install."""
    if shutil.which("promtool"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServiceError("No promtool. On Debian: sudo apt-get install prometheus")
    apt_install(["prometheus"])
    if shutil.which("systemctl"):
        succeeds("systemctl", "disable", "--now", "prometheus")


def install_libreoffice() -> None:
    """Install the spreadsheet program that a test opens reports with, as root; else say what to install. No service needs it."""
    if shutil.which("soffice"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServiceError("No soffice. On Debian: sudo apt-get install libreoffice-calc-nogui")
    apt_install(["libreoffice-calc-nogui"])


def apt_install(packages: list[str]) -> None:
    """Install Debian packages, as root, and let none of them start a server."""
    print(f"installing {' '.join(packages)} …", flush=True)
    # The packages would start servers of their own on the usual ports: 101 forbids it while they install.
    policy, cluster = Path("/usr/sbin/policy-rc.d"), Path("/etc/postgresql-common/createcluster.conf")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    if "postgresql" in packages and not cluster.exists():
        cluster.parent.mkdir(exist_ok=True)
        cluster.write_text("create_main_cluster = false\n")
    try:
        # apt-get waits for another apt-get, and keeps the file above where the package brings its own.
        wait, keep = "-oDPkg::Lock::Timeout=300", "-oDpkg::Options::=--force-confold"
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", wait, keep]
        run(*apt, "update")
        run(*apt, "install", "--no-install-recommends", *packages)
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def run(*command: str) -> None:
    """Run a command to its end; its output is shown only when it fails."""
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(f"{shlex.join(command)} failed:\n{(done.stdout + done.stderr).strip()}")


def succeeds(*command: str) -> bool:
    """Tell whether a command exists and ends well."""
    return bool(shutil.which(command[0])) and subprocess.run(command, check=False, capture_output=True).returncode == 0
