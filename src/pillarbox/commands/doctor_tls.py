"""Certificates that clients will refuse, now or soon."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence

from ..broker.certificates import configured, load_all
from ..config import Config
from ..home import Home
from ..store.certificates import Pair, own_files
from ..terms import Refused
from .findings import Finding, advice, fine, serious
from .reach import meets_others

ABOUT = "certificates"
SOON, LATER = datetime.timedelta(days=7), datetime.timedelta(days=30)  # ACME renews 30 days before the end
RENEW = "renew it; a running server takes the new file within seconds"


def check_certificates(place: Home, settings: Config) -> Iterator[Finding]:
    if not configured(settings) and not all(map(os.path.exists, own_files(place.tls))):
        yield fine(ABOUT, "there is none yet: the server makes one at its first start")
        return
    try:
        pairs = load_all(place, settings)
    except Refused as error:
        yield serious(
            ABOUT, error.why, "the server does not start with it", "give it a certificate and key that are right"
        )
        return
    others = meets_others(settings)
    now = datetime.datetime.now(datetime.UTC)
    for pair in pairs:
        yield expiry(pair.files[0], pair.leaf.not_valid_after_utc, now)
        if pair.self_signed and others:
            yield _self_signed(pair)
    yield name_match(settings.hostname, [name for pair in pairs for name in pair.names], others=others)


def expiry(path: str, until: datetime.datetime, now: datetime.datetime) -> Finding:
    left = until - now
    what = f"{path} is valid until {until:%Y-%m-%d}"
    if left <= SOON:
        return serious(ABOUT, what, "clients will then refuse the connection", RENEW)
    if left <= LATER:
        return advice(ABOUT, what, "whatever renews it should have done so", RENEW)
    return fine(ABOUT, what)


def name_match(hostname: str, names: Sequence[str], *, others: bool) -> Finding:
    """`names`: of all certificates together; `others`: do other machines come in?"""
    if any(_covers(name.lower(), hostname) for name in names):
        return fine(ABOUT, f"one is for {hostname}")
    what = f"none is for {hostname}, which is `hostname`: they are for {', '.join(names) or 'no name'}"
    why, remedy = "clients that are told that name refuse it", "get one for that name, or change `hostname`"
    return serious(ABOUT, what, why, remedy) if others else advice(ABOUT, what, why, remedy)


def _covers(name: str, hostname: str) -> bool:
    """A wildcard is one whole label, the first (RFC 6125 section 6.4.3)."""
    first, _, rest = name.partition(".")
    return name == hostname or (first == "*" and hostname.partition(".")[2] == rest)


def _self_signed(pair: Pair) -> Finding:
    what = f"{pair.files[0]} is signed by itself, and other machines come in"
    why = "each client must be told to trust it, and people learn to click warnings away"
    return advice(ABOUT, what, why, "get one that clients trust, for example from Let's Encrypt, and name it in [tls]")
