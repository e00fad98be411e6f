"""The file of one address's grants. relay-ctrl-check can read it; only who has our key can write it.

    USER=name NUL DOMAIN=name NUL                        of the latest login, as relay-ctrl-allow writes it
    PILLARBOX_GRANTS=version serial boot-id NUL
    PILLARBOX_GRANT_0=account mechanism created expires until messages recipients fingerprint NUL     the oldest first
    PILLARBOX_GRANT_MAC=HMAC-SHA256 of the address, NUL and all that stands before it NUL

Times are milliseconds: `created` and `expires` of Unix time, `until` since that boot. relay-ctrl-check puts every
NAME=VALUE into an environment: our names mean nothing to anybody, our values are printable ASCII.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from ..terms import Grant
from .grant_folder import CONTENT_LIMIT, fields, file_name, is_address, is_temporary

__all__ = [
    "CONTENT_LIMIT", "FINGERPRINT_LIMIT", "FINGERPRINT_MINIMUM", "GRANTS_PER_ADDRESS", "GrantFile", "StoredGrant",
    "account_of", "decode", "encode", "file_name", "is_account", "is_address", "is_temporary",
]  # fmt: skip

GRANTS_PER_ADDRESS = 16  # of a household; so many fit into CONTENT_LIMIT with the longest names
ACCOUNT_LIMIT = 320  # octets: RFC 5321 section 4.5.3.1, local part, @ and domain
FINGERPRINT_MINIMUM, FINGERPRINT_LIMIT = 8, 16  # octets

_VERSION = b"1"
_HEAD = re.compile(_VERSION + rb" ([0-9]{1,16}) ([!-~]{1,64})")
_RECORD = re.compile(
    rb"([!-~]{1,320}) ([!-~]{1,32}) ([0-9]{1,16}) ([0-9]{1,16}) ([0-9]{1,16}) ([0-9]{1,10}) ([0-9]{1,10})"
    rb" ((?:[0-9a-f]{2}){8,16})"
)
_MAC = b"PILLARBOX_GRANT_MAC="


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """A grant, and what only its keeper need know."""

    grant: Grant
    fingerprint: bytes = b""  # of the account's secret at the login; empty: relay-ctrl's, bound to the address alone
    until: float = 0.0  # seconds since boot


@dataclass(frozen=True, slots=True)
class GrantFile:
    """What a file of ours says."""

    serial: int  # grows with each writing, so that an old copy put back is known
    boot: str  # the boot during which `until` counts
    grants: tuple[StoredGrant, ...]  # of one account each, the oldest first


def is_account(name: str) -> bool:
    """Can a grant be for an account of that name?"""
    return 0 < len(name) <= ACCOUNT_LIMIT and all("!" <= character <= "~" for character in name)


def account_of(content: bytes) -> str:
    """Whose grant it is in relay-ctrl's words; empty where the file does not say (relay-ctrl-udp's are empty)."""
    found = fields(content)
    user, domain = found.get(b"USER", b""), found.get(b"DOMAIN", b"")
    return (user + (b"@" + domain if domain else b"")).decode("utf-8", "replace")


def encode(name: str, file: GrantFile, key: bytes) -> bytes:
    """The content for the address's file `name`. There is at least one grant, and each account `is_account`."""
    user, _, domain = file.grants[-1].grant.account.partition("@")
    parts = [f"USER={user}", *([f"DOMAIN={domain}"] if domain else [])]
    parts.append(f"PILLARBOX_GRANTS={_VERSION.decode()} {file.serial} {file.boot}")
    parts += [f"PILLARBOX_GRANT_{number}={_record(stored)}" for number, stored in enumerate(file.grants)]
    body = "".join(f"{part}\0" for part in parts).encode("ascii")
    return body + _MAC + _mac(name, body, key) + b"\0"


def decode(name: str, content: bytes, key: bytes) -> GrantFile | None:
    """What we wrote for this address; None for whatever else may lie there."""
    body, _, mac = content.rpartition(_MAC)
    if not hmac.compare_digest(mac, _mac(name, body, key) + b"\0"):
        return None
    values = fields(body)
    head = _HEAD.fullmatch(values.get(b"PILLARBOX_GRANTS", b""))
    found = [_RECORD.fullmatch(value) for field, value in values.items() if field.startswith(b"PILLARBOX_GRANT_")]
    if head is None:
        return None
    grants = tuple(_stored(name, record.groups()) for record in found if record is not None)
    return GrantFile(int(head[1]), head[2].decode("ascii"), grants)


def _mac(name: str, body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, name.encode("ascii") + b"\0" + body, hashlib.sha256).hex().encode("ascii")


def _record(stored: StoredGrant) -> str:
    grant = stored.grant
    times = " ".join(str(round(seconds * 1000)) for seconds in (grant.created, grant.expires, stored.until))
    return f"{grant.account} {grant.mechanism} {times} {grant.messages} {grant.recipients} {stored.fingerprint.hex()}"


def _stored(name: str, fields: tuple[bytes, ...]) -> StoredGrant:
    account, mechanism, created, expires, until, messages, recipients, fingerprint = (
        field.decode("ascii") for field in fields
    )
    grant = Grant(name, account, int(created) / 1000, int(expires) / 1000, mechanism, int(messages), int(recipients))
    return StoredGrant(grant, bytes.fromhex(fingerprint), int(until) / 1000)
