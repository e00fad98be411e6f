"""Could a stranger send through us, or a password travel in the clear? Asked of what judges it in earnest."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator

from ..broker.connection_rules import RELAYCLIENT, ConnectionRules
from ..broker.directory import Directory
from ..broker.privilege import as_user
from ..broker.standing import Standings
from ..config import Config
from ..home import Home
from ..policy.exposure import plaintext_allowed
from ..policy.mechanisms import plaintext
from ..policy.networks import Networks
from ..policy.relaying import CANT_TELL, Refusal, may_send
from ..policy.tcprules import judge
from ..store import cdb
from ..store.accounts import AccountStore
from ..store.grant_key import KEY_OCTETS
from ..store.passwd import PasswdAccounts
from ..store.secrets import Seal
from .findings import Finding, advice, fine, serious, unknown
from .reach import meets_others

ABOUT, ABOUT_PASSWORDS = "relaying", "passwords"
STRANGERS = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1")  # nobody's: RFC 5737, RFC 3849
SENDERS = (b"stranger@example.net", b"")  # the null sender too: a bounce may be spam
STRANGER = (0, 0)  # a session that nobody has logged in on
WIDE = re.compile(
    rb"(?:(?!10\.|127\.)[0-9]+\.|[0-9a-f]{1,4}:)?", re.IGNORECASE
)  # an IPv4 /8, an IPv6 /16, or everybody
PRIVATE = re.compile(rb"f[cde][0-9a-f]{2}:", re.IGNORECASE)  # fc00::/7 and fe80::/10


def check_relay(place: Home, settings: Config) -> Iterator[Finding]:
    if settings.policy.rules_smtp:
        yield from _wide_rules(settings.policy.rules_smtp)
    with tempfile.TemporaryDirectory() as empty:
        standings = _standings(place, settings, empty)
        verdicts = {address: verdict(standings, address) for address in STRANGERS}
    open_to = [address for address, found in verdicts.items() if found == "open"]
    if open_to:
        what = f"a stranger at {', '.join(open_to)} may send to the whole world through us"
        why = "spammers find such a host within hours, and nobody takes its mail after that"
        yield serious(ABOUT, what, why, 'take RELAYCLIENT off the rules, and `relay.style = "classic"` out')
    elif "unknown" in verdicts.values():
        yield unknown(ABOUT, f"the grants in {settings.relay.directory or place.grants} can't be read")
    else:
        yield fine(ABOUT, "strangers are refused what is for other hosts")


def verdict(standings: Standings, address: str) -> str:
    """Of somebody who never logged in, and sends to another host: open, closed, or unknown (451)."""
    found = {_refusal(standings, address, sender, submission) for sender in SENDERS for submission in (False, True)}
    return "open" if None in found else "unknown" if CANT_TELL in found else "closed"


def _refusal(standings: Standings, address: str, sender: bytes, submission: bool) -> Refusal | None:
    standing = standings.of(address, STRANGER, sender, submission=submission)
    return may_send(
        local=False,
        deliverable=False,
        standing=standing.kind,
        owned=standing.owned,
        left=standing.left,
        submission=submission,
        sender=sender,
    )


def _standings(place: Home, settings: Config, empty: str) -> Standings:
    """The broker's own judge, with this configuration, these rules and these grants, and with no account of ours."""
    made = Standings(os.urandom(KEY_OCTETS), "")
    store = AccountStore(f"{empty}/accounts", Seal(os.urandom(KEY_OCTETS)), empty)
    store.close()
    grants = settings.relay.directory or place.grants
    known = grants if os.path.isdir(grants) else empty  # before the first start there are none
    made.configure(settings, Directory(settings, store, _passwd), known, Networks(settings.policy.trusted))
    rules = ConnectionRules()
    if rules.configure(settings.policy):
        made.relays = rules.relays
    return made


def _passwd(settings: Config) -> PasswdAccounts:
    return PasswdAccounts(settings.accounts.password_file, settings.domains, as_user)


def _wide_rules(path: str) -> Iterator[Finding]:
    """Raises OSError."""
    for key in wide_keys(cdb.all_records(path)):
        what = f'the rule "{key}:allow" in {path} sets RELAYCLIENT'
        why = "everybody in that network may send to the whole world through us"
        yield serious(ABOUT, what, why, "name your own addresses alone, and run tcprules again")


def wide_keys(records: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Of rules that let more relay than one owner's network holds."""
    found = dict(reversed(tuple(records)))
    wide = [key for key in found if WIDE.fullmatch(key) and not PRIVATE.fullmatch(key)]
    verdicts = {key: judge({key: found[key], b"": found[key]}.get, key, None, None) for key in wide}
    return [
        key.decode("ascii", "replace")
        for key, verdict in verdicts.items()
        if verdict.allowed and dict(verdict.variables).get(RELAYCLIENT) == b""
    ]


def check_plaintext(place: Home, settings: Config) -> Iterator[Finding]:
    trusted = Networks(settings.policy.trusted)
    word = plaintext(settings.policy.profile, settings.policy.plaintext)
    strangers = [
        address for address in STRANGERS if plaintext_allowed(word, trusted=trusted.contains(address), secured=False)
    ]
    if not strangers:
        yield fine(ABOUT_PASSWORDS, "a password from a strange network is taken under TLS alone")
        return
    what = f"a password in the clear is taken from {', '.join(strangers)}"
    why = "whoever listens on the way has it"
    remedy = '`policy.plaintext = "trusted"`, with your own networks alone in `policy.trusted`'
    if meets_others(settings, "pop3", "submission"):
        yield serious(ABOUT_PASSWORDS, what, why, remedy)
    else:
        yield advice(ABOUT_PASSWORDS, f"{what}; so far this machine alone can come in", why, remedy)
