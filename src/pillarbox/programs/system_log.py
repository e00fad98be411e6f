"""Lines for the system's log, as syslog(3) of the C library hands them to /dev/log: one datagram each (RFC 3164)."""

from __future__ import annotations

import socket
import time

SOCKET = b"/dev/log"
ALERT, WARNING, INFO = 1, 4, 6  # severities
MAIL = 2  # a facility
_USER = 1  # the facility where the number is none
_FACILITIES = 128  # the numbers that the C library takes
SECONDS = 5.0  # how long a log that reads nothing may hold us up; syslog(3) would wait for ever
PIECE = 799  # octets of a line in one datagram: splogger cuts there
_PRINTABLE = bytes(octet if 32 <= octet <= 126 else ord("?") for octet in range(256))


class SystemLog:
    """The log, by one name and facility. Lines that it does not take are lost: that must stop no mail."""

    def __init__(self, tag: bytes, facility: int) -> None:
        self._tag = tag
        self._facility = facility if facility < _FACILITIES else _USER
        self._socket: socket.socket | None = None
        self._patience = SECONDS

    def write(self, severity: int, text: bytes) -> None:
        """One datagram; waits for at most SECONDS, and not again until one has been taken."""
        date = time.strftime("%b %e %T").encode("ascii")
        data = b"<%d>%s %s: %s" % (self._facility << 3 | severity, date, self._tag, text)
        if not self._sent(data):  # syslogd may have been started anew
            self._sent(data)

    def _sent(self, data: bytes) -> bool:
        """False: there was no log behind the socket. True: it is sent, or given up."""
        try:
            log = self._socket = self._socket or self._connect()
            log.settimeout(self._patience)
            log.send(data)
        except (TimeoutError, BlockingIOError):
            self._patience = 0
            return True
        except OSError:
            if self._socket:
                self._socket.close()
            self._socket = None
            return False
        self._patience = SECONDS
        return True

    @staticmethod
    def _connect() -> socket.socket:
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            log.connect(SOCKET)
        except OSError:
            log.close()
            raise
        return log


class Lines:
    """Cuts what is read into lines, and long lines into pieces, each with the time at which the line was there."""

    def __init__(self, log: SystemLog) -> None:
        self._log = log
        self._rest = b""
        self._begun: tuple[int, bytes] | None = None  # severity and time of a line of which a piece is written

    def take(self, data: bytes) -> None:
        """What was read; a line without its end waits for more."""
        *ended, self._rest = (self._rest + data).split(b"\n")
        for line in ended:
            self._finish(line)
        while len(self._rest) > PIECE:
            self._write(self._rest[:PIECE])
            self._rest = self._rest[PIECE:]

    def end(self) -> None:
        """There is no more: a last line counts without its end, too."""
        self._finish(self._rest)
        self._rest = b""

    def _finish(self, line: bytes) -> None:
        for start in range(0, len(line), PIECE):
            self._write(line[start : start + PIECE])
        self._begun = None

    def _write(self, piece: bytes) -> None:
        text = piece.translate(_PRINTABLE)
        if self._begun:
            severity, stamp = self._begun
            self._log.write(severity, stamp + b"+" + text)
            return
        severity, stamp = _severity(text), _stamp()
        self._begun = severity, stamp
        self._log.write(severity, stamp + b" " + text)


def _severity(text: bytes) -> int:
    if text.startswith(b"alert:"):
        return ALERT
    return WARNING if text.startswith(b"warning:") else INFO


def _stamp() -> bytes:
    """Seconds since 1970, with microseconds."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return b"%d.%06d" % (seconds, rest // 1000)
