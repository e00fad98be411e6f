"""The folder of grants as relay-ctrl keeps it: an address's file, its name, its age, and what it says of a login.

Loads in a millisecond, since programs that run at each login need it; grant_file and grants hold what the daemon adds.
"""

from __future__ import annotations

from functools import lru_cache

CONTENT_LIMIT = 8192  # octets that relay-ctrl-check reads of a file
FUTURE_SECONDS = 5.0  # made further ahead is a forgery, or a clock gone wrong
CACHED = 16_384  # addresses whose file names we know

_DIGITS = frozenset("0123456789")


@lru_cache(CACHED)
def file_name(address: str) -> str | None:
    """The address as a file name; None for what is no address. An IPv6 zone (%eth0) is no name for a file."""
    return _file_name(address)


def _file_name(address: str) -> str | None:
    if _is_ipv4(address):
        return address
    if ":" not in address:
        return None
    from ipaddress import IPv6Address  # takes 5 ms to load, and not every client comes by IPv6

    try:
        parsed = IPv6Address(address)
    except ValueError:
        return None
    return None if parsed.scope_id is not None else str(parsed.ipv4_mapped or parsed)


def _is_ipv4(address: str) -> bool:
    parts = address.split(".")
    return len(parts) == 4 and all(_is_octet(part) for part in parts)


def _is_octet(part: str) -> bool:
    """Decimal, and no octal number in disguise."""
    return 0 < len(part) <= 3 and _DIGITS.issuperset(part) and (part == "0" or part[0] != "0") and int(part) <= 255


def is_address(name: str) -> bool:
    """Is this the name of an address's file?"""
    return _file_name(name) == name


def temporary_name(now: float, process: int) -> str:
    """Of a file that is being written, as relay-ctrl-allow has it. `now`: Unix time."""
    second, micro = divmod(int(now * 1_000_000), 1_000_000)
    return f".{second}.{micro}:{process}"


def is_temporary(name: str) -> bool:
    """Is this the name of a file that is being written, by us or by relay-ctrl-allow?"""
    second, dot, rest = name[1:].partition(".")
    micro, colon, process = rest.partition(":")
    numbers = (second, micro, process)
    return name[:1] + dot + colon == "..:" and all(number and _DIGITS.issuperset(number) for number in numbers)


def is_alive(mtime: float, expiry: float, now: float) -> bool:
    """Is a file of that age a grant? One of the future is none: it would last longer than it may. All in seconds."""
    return mtime + expiry >= now and mtime <= now + FUTURE_SECONDS


def fields(content: bytes) -> dict[bytes, bytes]:
    """As relay-ctrl-check reads them: what is not terminated, or has no `=`, does not count."""
    return dict(part.split(b"=", 1) for part in content.split(b"\0")[:-1] if b"=" in part)
