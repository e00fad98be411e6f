"""A system log of a test's own: /dev/log in a mount namespace leads to a socket of ours. Only for root."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
from pathlib import Path

DATAGRAM = re.compile(rb"<(\d+)>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) ([^:]*): (\d+\.\d{6})([ +])(.*)", re.DOTALL)
QUEUE = 1 << 20  # octets that wait for us while a program runs


class PrivateLog:
    """What arrives at a socket, which is made at that path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._socket.setblocking(False)

    def drain(self) -> list[bytes]:
        """All datagrams until now."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(QUEUE))
            except BlockingIOError:
                return found

    def lines(self) -> list[tuple[int, bytes, bytes]]:
        """Priority, tag and text of each; the text begins with a blank, or with a plus where a line goes on."""
        found = []
        stamp = b""
        for datagram in self.drain():
            match = DATAGRAM.fullmatch(datagram)
            assert match, datagram
            priority, _date, tag, time, sign, text = match.groups()
            assert sign == b" " or time == stamp  # a piece has the time of its line
            stamp = time
            found.append((int(priority), tag, sign + text))
        return found

    def close(self) -> None:
        self._socket.close()


def before_log(program: Path, script: Path, log: PrivateLog | None, *commands: str) -> Path:
    """That program where /dev/log is `log`, or nothing; `commands` are run first, as a shell has them."""
    mount, unshare = shutil.which("mount"), shutil.which("unshare")
    steps = [f"{mount} -t tmpfs none /dev"]
    steps += [f"/bin/ln -s {shlex.quote(str(log.path))} /dev/log"] if log else []
    inner = " && ".join([*steps, *commands, 'exec "$@"'])
    script.write_text(f'#!/bin/sh\nexec {unshare} --mount /bin/sh -c {shlex.quote(inner)} sh {program} "$@"\n')
    script.chmod(0o755)
    return script
