"""Run inside namespaces of its own (see tests.classic.machine), as root: a clean machine, on which the how-to is followed.

    ... PYTHON -m tests.service.follow HOWTO RESULT.json

Every shell block of ways A and B, of the tests, and of the way from B to A is run as it stands, in order, with init
scripts where the how-to leaves the choice. What is not run: setting up (it needs the net), systemd's commands, and the
lines that tests/classic runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pillarbox
from pillarbox.programs.names import PROGRAMS

from ..classic.machine import Syslog, mount

OPT = Path("/opt/pillarbox")
SECRET_FILE = "/home/alice/Maildir/.password"
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONFIG = Path("/var/lib/pillarbox/pillarbox.toml")
SECONDS = 60
# As the user who reads the mail.
AS_ALICE = ("maildirmake", "fetchmail")
NOT_HERE = (
    *("systemctl", "python3 run.py", "read -r secret; printf"),
    *("pop3 qmail-popup", "/usr/local/bin/envdir", "qmail-start ./Maildir/", "kill %"),
)
RC_FILES = {".fetchmailrc": "poll", ".msmtprc": "account"}  # and the first word of what the how-to says of it


@dataclass
class Step:
    """A block that was run. `way` is A or B."""

    way: str
    block: str
    status: int
    output: str


def clean_machine() -> None:
    """No classic program, no mail, no home: what a new Debian has."""
    mount("--make-rprivate", "/")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    store = Path("/mnt")
    mount("-t", "tmpfs", "-o", "mode=0755", "none", store)
    shutil.copytree("/etc", store / "etc", symlinks=True, ignore_dangling_symlinks=True)
    mount("--bind", store / "etc", "/etc")
    _devices(store)
    _programs(store)
    for folder in ("/var", "/home", "/opt", "/run", "/usr/local/bin", "/usr/local/sbin"):
        Path(folder).mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", "mode=0755", "none", folder)
    for folder in ("/var/log", "/var/lib", "/var/spool", "/etc/init.d", "/etc/cron.d", "/etc/default"):
        Path(folder).mkdir(exist_ok=True)
    with open("/etc/services", "a") as services, open("/etc/hosts", "a") as hosts:
        services.write("smtp\t25/tcp\npop3\t110/tcp\n")
        hosts.write("127.0.0.1 mail.example.jp\n")
    subprocess.run(["useradd", "--create-home", "alice"], check=True)


def _devices(store: Path) -> None:
    """With a /dev/log of our own."""
    devices = store / "dev"
    devices.mkdir()
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (devices / name).touch()
        mount("--bind", f"/dev/{name}", devices / name)
    (devices / "fd").symlink_to("/proc/self/fd")
    (devices / "shm").mkdir(mode=0o1777)
    mount("--rbind", devices, "/dev")


def _programs(store: Path) -> None:
    """/usr/bin without the names that are ours to provide."""
    kept, shown = store / "programs", store / "bin"
    kept.mkdir()
    shown.mkdir()
    mount("--bind", "/usr/bin", kept)
    for entry in set(os.listdir(kept)) - set(PROGRAMS):
        (shown / entry).symlink_to(kept / entry)
    mount("--bind", shown, "/usr/bin")


def install() -> None:
    """What the how-to's first section leaves behind."""
    shutil.copytree(Path(pillarbox.__file__).parent, OPT / "src/pillarbox")
    venv.create(OPT / ".venv", symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = OPT / ".venv/lib" / version / "site-packages"
    ignored = shutil.ignore_patterns("pillarbox*", "matplotlib*", "numpy*", "mypy*", "__pycache__", "PIL*")
    shutil.copytree(sysconfig.get_path("purelib"), libraries, dirs_exist_ok=True, ignore=ignored)
    (libraries / "pillarbox.pth").write_text(f"{OPT}/src\n")
    command = OPT / ".venv/bin/pillarbox"
    command.write_text(f"#!{OPT}/.venv/bin/python\nfrom pillarbox.multicall import main\nmain()\n")
    command.chmod(0o755)
    Path("/usr/local/bin/pillarbox").symlink_to(command)


def section(text: str, number: int) -> str:
    """From its heading to the next."""
    return re.split(r"^## \d+\. ", text, flags=re.MULTILINE)[number]


class Reader:
    """Whoever follows the how-to."""

    def __init__(self, howto: str) -> None:
        self.howto = howto
        self.steps: list[Step] = []
        self.secret = ""

    def follow(self, way: str, number: int) -> None:
        """The shell blocks of one section."""
        for block in SHELL.findall(section(self.howto, number)):
            if not any(word in block for word in NOT_HERE):
                self.run(way, block)

    def run(self, way: str, block: str) -> None:
        shell = ["bash", "-e", "-o", "pipefail", "-c", self._typed(block)]
        user = ["setpriv", "--reuid=alice", "--regid=alice", "--init-groups", "env", "HOME=/home/alice"]
        done = subprocess.run(
            [*user, *shell] if any(word in block for word in AS_ALICE) else shell,
            input=f"{self.secret}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/tmp" if "apop-check" in block else "/",
            timeout=SECONDS,
        )
        self.steps.append(Step(way, block, done.returncode, done.stdout))
        if found := re.search(r"^secret: (.*)$", done.stdout, re.MULTILINE):
            self.secret = found[1]
        if os.path.exists(SECRET_FILE):
            self.secret = Path(SECRET_FILE).read_text().rstrip("\n")

    def _typed(self, block: str) -> str:
        """Curl asks on the terminal, and there is none."""
        return block.replace("--user alice", f"--user alice:{self.secret}")

    def configure_clients(self) -> None:
        """As the how-to's own examples say; the secret, too, since fetchmail would ask for it. They know no mail yet."""
        Path("/home/alice/.fetchids").unlink(missing_ok=True)
        for file, first in RC_FILES.items():
            (lines,) = re.findall(rf"^( {{4}}{first} .*\n(?: {{4}}.*\n)*)", section(self.howto, 4), re.MULTILINE)
            self._write(file, lines)

    def _write(self, name: str, lines: str) -> None:
        path = Path("/home/alice") / name
        text = "".join(line.removeprefix("    ") + "\n" for line in lines.splitlines())
        path.write_text(text.replace('sslproto ""', f'sslproto "" password "{self.secret}"'))
        path.chmod(0o600)
        shutil.chown(path, "alice", "alice")


def deliver() -> str:
    """A message from elsewhere, by SMTP; curl's words."""
    message = "Subject: from elsewhere\r\n\r\nhello\r\n"
    words = "--mail-from x@elsewhere.example --mail-rcpt alice@example.jp"
    command = ["curl", "--silent", "--show-error", "-T", "-", "smtp://127.0.0.1:25", *words.split()]
    done = subprocess.run(command, input=message, capture_output=True, text=True, timeout=SECONDS)
    time.sleep(2)
    return done.stderr


def move(reader: Reader) -> list[str]:
    """From the chain to the daemon, with init scripts; what deliveries on the way said."""
    way, said = "to A", []
    reader.follow(way, 5)
    (wanted,) = re.findall(r"^```toml\n(.*?)^```$", section(reader.howto, 5), re.DOTALL | re.MULTILINE)
    assert _holds(tomllib.loads(CONFIG.read_text()), tomllib.loads(wanted)), CONFIG.read_text()
    with CONFIG.open("a") as file:
        file.write('[queue]\nsmtpd_users = ["qmaild"]\n[aliases]\npostmaster = "alice"\n')
    (check,) = [block for block in SHELL.findall(section(reader.howto, 4)) if "apop-check" in block]
    for chains, port, keys in (
        ("pop3 smtp", 1110, {}),
        ("smtp", 110, {"pop3": '["0.0.0.0:110", "[::]:110"]'}),
        ("", 110, {"smtp": '["0.0.0.0:25", "[::]:25"]'}),
    ):
        Path("/etc/default/pillarbox-chain").write_text(f'CHAINS="{chains}"\n')
        reader.run(way, f"/etc/init.d/pillarbox-chain restart # {chains}\n")
        for key, value in keys.items():
            CONFIG.write_text(re.sub(rf"^{key} = .*$", f"{key} = {value}", CONFIG.read_text(), flags=re.MULTILINE))
        reader.run(way, f"/etc/init.d/pillarbox {'reload' if keys else 'start'} # {chains}\n")
        reader.run(way, check.replace("/110", f"/{port}") + f"# {chains}\n")
        said.append(deliver())
    reader.run(way, "/etc/init.d/pillarbox stop\n")
    return said


def _holds(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Does an imported configuration say what the how-to wants of it?"""
    return all(found[table].items() >= keys.items() for table, keys in wanted.items())


def main(howto: str, result: str) -> None:
    clean_machine()
    Syslog()
    install()
    reader = Reader(Path(howto).read_text("utf-8"))
    faults = []
    for way, number in (("A", 2), ("B", 3)):
        reader.follow(way, number)
        faults.append(deliver())
        reader.configure_clients()
        reader.follow(way, 4)
        if way == "A":
            reader.run(way, "/etc/init.d/pillarbox stop\n")
    faults += move(reader)
    seen = {"steps": [asdict(step) for step in reader.steps], "faults": faults}
    Path(result).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
