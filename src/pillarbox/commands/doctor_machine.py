"""The machine below us: its clock, its disks, and the Python and OpenSSL that run here."""

from __future__ import annotations

import ctypes
import os
import ssl
import sys
import time
from collections.abc import Iterator

from ..config import Config
from ..home import Home
from .findings import Finding, advice, fine, serious

CLOCK_DIFFERENCE = 60.0  # seconds that the clock of the board may differ; it is often set at a stop only
RTC = "/sys/class/rtc/rtc0/since_epoch"
STA_UNSYNC = 0x40  # linux/timex.h
TIMEX_OCTETS = 208  # struct timex of a 64-bit Linux
TIMEX_STATUS = 40  # where its `status` stands, a C int
ROOM = 1 << 30  # octets free below which it is time to look
INODES_SERIOUS, INODES = 1_000, 20_000  # free: each message takes up to four while it is accepted

Version = tuple[int, ...]

# CVE-2023-40217: what ssl.SSLSocket reads before the handshake of a closed connection passes for decrypted.
PYTHON_MENDED: dict[Version, int] = {(3, 11): 5}
OPENSSL_MENDED = (3, 0, 7)  # CVE-2022-3602 and -3786: a certificate's name overruns a buffer when it is checked
OPENSSL_ALIVE = (3, 0, 0)  # older ones have got no public fix since 2023-09-11


def check_clock(place: Home, settings: Config) -> Iterator[Finding]:
    installed = os.stat(__file__).st_mtime
    yield clock(time.time(), installed, synchronised=_synchronised(), board=_board())


def clock(now: float, installed: float, *, synchronised: bool | None, board: float | None) -> Finding:
    """`installed`: when this program came here. `board`: what the clock of the board says; None, as of `synchronised`:
    that can't be told. Unix time, all of them."""
    why = "grants, certificates and the queue's waits go by the clock, and so do the dates in mail"
    remedy = "run a time service: systemd-timesyncd, chrony or ntpd"
    if now < installed:
        return serious("clock", "the clock stands before the day when this program came here", why, remedy)
    if board is not None and not _alike(now, board):
        return advice("clock", f"the clock and that of the board differ by {abs(now - board):.0f} seconds", why, remedy)
    if synchronised is False:
        return advice("clock", "the kernel knows of no time service that keeps the clock right", why, remedy)
    return fine("clock", "the clock is kept right" if synchronised else "nothing speaks against the clock")


def _alike(now: float, board: float) -> bool:
    """The board may go by local time, which differs by quarters of an hour."""
    quarter = 900.0
    rest = abs(now - board) % quarter
    zone = abs(now - board) <= 14 * 3600 + CLOCK_DIFFERENCE
    return zone and min(rest, quarter - rest) <= CLOCK_DIFFERENCE


def _synchronised() -> bool | None:
    """What adjtimex(2) says; it changes nothing where no mode is set. None: it does not say."""
    buffer = (ctypes.c_char * TIMEX_OCTETS)()
    if ctypes.CDLL(None).adjtimex(buffer) < 0:
        return None
    status = int.from_bytes(buffer.raw[TIMEX_STATUS : TIMEX_STATUS + 4], sys.byteorder)
    return not status & STA_UNSYNC


def _board() -> float | None:
    try:
        with open(RTC, encoding="ascii") as file:
            return float(file.read(32))
    except (OSError, ValueError):
        return None  # a virtual machine often has none


def check_disk(place: Home, settings: Config) -> Iterator[Finding]:
    seen: set[int] = set()
    for path in (place.folder, place.queue, place.mail):
        if os.path.exists(path) and (device := os.stat(path).st_dev) not in seen:
            seen.add(device)
            yield disk(path, os.statvfs(path), settings.limits.message_octets)


def disk(path: str, state: os.statvfs_result, message_octets: int) -> Finding:
    """`message_octets`: of the largest message that is taken."""
    free = state.f_bavail * state.f_frsize
    inodes = state.f_favail if state.f_files else None  # btrfs and others have as many as they need
    words = f"{path} has {free >> 20} MiB free" + ("" if inodes is None else f", and {inodes} inodes")
    why, remedy = "mail is refused until there is room", "remove what is not needed, or give it a larger disk"
    if state.f_flag & os.ST_RDONLY:
        return serious("disk", f"the disk of {path} can't be written", "all mail is refused", "mount it for writing")
    if free < 2 * message_octets or (inodes is not None and inodes < INODES_SERIOUS):
        return serious("disk", words, why, remedy)
    if free < ROOM or (inodes is not None and inodes < INODES):
        return advice("disk", words, why, remedy)
    return fine("disk", words)


def check_python(place: Home, settings: Config) -> Iterator[Finding]:
    yield python(sys.version_info[:3])
    yield openssl(ssl.OPENSSL_VERSION_INFO, ssl.OPENSSL_VERSION)


def python(version: Version) -> Finding:
    words = f"Python {'.'.join(map(str, version))}"
    if version[2] < PYTHON_MENDED.get(version[:2], 0):
        what = f"{words} was released with CVE-2023-40217, a flaw of its ssl module"
        why = "this server's TLS takes another way, but other programs may not; a distribution may have mended it"
        return advice("software", what, why, "see what your distribution says of that number, or take a newer Python")
    return fine("software", f"{words} has no flaw that we know of in what is used here")


def openssl(version: tuple[int, int, int, int, int], text: str) -> Finding:
    """`version`: ssl.OPENSSL_VERSION_INFO; from 3.0 on the fourth number is the patch."""
    number = (version[0], version[1], version[3]) if version[0] >= 3 else version[:3]
    remedy = "take your distribution's newest OpenSSL, and start the server again"
    if OPENSSL_ALIVE <= number < OPENSSL_MENDED:
        why = "a certificate of another host's can crash the delivery, or worse; a distribution may have mended it"
        return serious("software", f"{text} was released with CVE-2022-3602", why, remedy)
    if number < OPENSSL_ALIVE:
        return advice("software", f"{text} has got no public fix since 2023", "the next flaw stays open", remedy)
    return fine("software", f"{text} has no flaw that we know of in what is used here")
