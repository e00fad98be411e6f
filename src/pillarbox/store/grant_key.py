"""What a grant is bound to: a key that only the broker has, the secret of its account, and this boot."""

from __future__ import annotations

import hashlib
import hmac
import time

from .grant_file import FINGERPRINT_LIMIT

KEY_OCTETS = 32


def grant_key(sealing_key: bytes) -> bytes:
    """The key of grants, from the key that seals secrets: knowing the one does not open the other."""
    return hmac.digest(sealing_key, b"pillarbox grants", hashlib.sha256)


def fingerprint_of(secret: bytes, account: str, key: bytes) -> bytes:
    """Changes with the account's secret, and lets nobody guess it who lacks the key of grants."""
    return hmac.digest(key, b"secret\0" + account.encode() + b"\0" + secret, hashlib.sha256)[:FINGERPRINT_LIMIT]


def boot_id() -> str:
    """Which boot this is. Raises OSError."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read(64).rstrip("\n")


def monotonic() -> float:
    """Seconds since that boot, the same in every process; goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
