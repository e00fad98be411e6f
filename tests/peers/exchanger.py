"""A real mail server as others meet it, and what it has put into Maildirs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.01
MAIL_UID = 61812  # owns the Maildirs


@dataclass(frozen=True)
class Exchanger:
    """The final exchanger for mail to its domain."""

    host: str
    port: int
    domain: str
    mail: Path  # one Maildir per local part
    log_file: Path

    @property
    def route(self) -> str:
        """As `[delivery] routes` wants it."""
        return f"{self.host}:{self.port}"

    def address(self, local: str) -> str:
        return f"{local}@{self.domain}"

    def messages(self, local: str) -> list[bytes]:
        """What lies in a Maildir, with LF line ends and the server's own trace fields, the oldest first."""
        files = (self.mail / local / "new").glob("*")
        return [path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]

    def wait_for(self, local: str, count: int = 1) -> list[bytes]:
        """The messages, once there are so many. Raises TimeoutError, with the end of the log."""
        until = time.monotonic() + WAIT_SECONDS
        while len(found := self.messages(local)) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(found)} of {count} messages for {local}; the log:\n{self.log()[-2000:]}")
            time.sleep(LOOK_SECONDS)
        return found

    def clear(self) -> None:
        """Forget what was delivered."""
        for path in self.mail.glob("*/new/*"):
            path.unlink()

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")


def mail_folder(place: Path) -> Path:
    """Where deliveries may make Maildirs."""
    made = place / "mail"
    made.mkdir(mode=0o700)
    os.chown(made, MAIL_UID, MAIL_UID)
    return made
