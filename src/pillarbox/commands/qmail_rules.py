"""Who may send on an old host: what tcprules and qmail-newmrh have compiled, what of tcpserver's rules has no meaning
here, and relay-ctrl's settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..store.cdb import all_records
from ..store.control import Controls
from ..terms import Refused, TryLater
from .qmail_translation import Translation

Records = list[tuple[bytes, bytes]]

COMPILED = ".cdb"
RELAYS = b"+RELAYCLIENT="  # and no more: nothing is appended to the recipients
FILE_LIMIT = 64 << 20  # octets; as store.control has it for the text


def rules(found: Translation, path: str) -> None:
    """The rules at that path (of the text, or compiled) go on to be read. Raises Refused and TryLater."""
    compiled = os.path.abspath(path if path.endswith(COMPILED) else path + COMPILED)
    content = records(compiled)
    if content is None:
        raise Refused(f"{compiled} is not there: compile the rules with tcprules, and name what it made")
    found.carry("policy.rules_smtp", compiled, "--tcp-rules: whom they deny may not connect, whom they let relay may")
    for key, data in content:
        name = key.decode("latin-1")
        for why, do in _without_meaning(key, data.split(b"\0")[:-1]):
            found.leave(compiled, name or "(all others)", why, do)


def _without_meaning(key: bytes, items: list[bytes]) -> Iterator[tuple[str, str]]:
    if b"=" in key or b"@" in key:
        yield "a rule by host name or ident never matches here: neither is asked", "write one by address"
    for item in items:
        if item.startswith(RELAYS) and item != RELAYS:
            yield "the value of RELAYCLIENT is not appended to recipients, so nobody may relay", 'write RELAYCLIENT=""'
        elif item.startswith(b"+") and item != RELAYS:
            variable = item[1:].partition(b"=")[0].decode("latin-1")
            yield f"{variable} is a variable for qmail-smtpd, which does not run here", "look for a key of ours"


def grants(found: Translation, folder: str) -> None:
    """Where relay-ctrl's variables lie in that folder, its grants count for the server too. Raises TryLater."""
    settings = Controls(folder)
    directory = (settings.line("RELAY_CTRL_DIR") or b"").decode("utf-8", "replace")
    if not directory:
        return
    found.carry("relay.style", "classic", f"{folder}: as relay-ctrl, whoever is at the address may send")
    found.carry("relay.directory", directory, f"{folder}/RELAY_CTRL_DIR")
    if expiry := settings.number("RELAY_CTRL_EXPIRY", 0):
        found.carry("relay.expiry", expiry, f"{folder}/RELAY_CTRL_EXPIRY")


def records(path: str) -> Records | None:
    """The keys and data of a compiled file; None where there is none. Raises TryLater."""
    try:
        return list(all_records(path, FILE_LIMIT))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TryLater(f"{path}: {error.strerror}") from None
