"""splogger (qmail): hand each line of descriptor 0 to the system's log.

    splogger [TAG [FACILITY]]

TAG is `splogger` if not given, FACILITY the number of a syslog facility (0 kern, 1 user, 2 mail, 3 daemon, ... 16 local0
to 23 local7), 2 if not given. A line that begins with `alert:` or `warning:` has that severity, any other `info`. Before
each line stands the time, in seconds since 1970 with six decimals. Octets that are no printable ASCII become `?`; a line
of more than 799 octets is cut into pieces, which have a `+` behind the time from the second one on; empty lines are left
out. Exit status 0 when the input ends.

Where there is no system log its lines are lost, as with the original; where it takes none, they are after five seconds
(the original waits, and with it whoever writes to it). Unlike the original it writes a last line without its end, too.
"""

from __future__ import annotations

import os

from .chain import Environment
from .system_log import MAIL, Lines, SystemLog

_AT_ONCE = 64 << 10  # octets: a pipe has room for that many


def main(arguments: list[bytes], _environment: Environment) -> int:
    """0, when there is nothing more to read."""
    tag = arguments[0] if arguments else b"splogger"
    facility = _number(arguments[1]) if len(arguments) > 1 else MAIL
    lines = Lines(SystemLog(tag, facility))
    while data := _read():
        lines.take(data)
    lines.end()
    return 0


def _number(argument: bytes) -> int:
    """As the originals read one: the digits at the beginning, 0 if there are none."""
    digits = argument[: len(argument) - len(argument.lstrip(b"0123456789"))]
    return int(digits[:20] or b"0")


def _read() -> bytes:
    try:
        return os.read(0, _AT_ONCE)
    except OSError:
        return b""
