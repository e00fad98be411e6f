"""The commands `pillarbox tls`: which certificates are served, and what a client must know to trust them."""

from __future__ import annotations

import json
import os

from cyclopts import App

from .. import config
from ..broker.certificates import configured, load_all
from ..config import Config
from ..home import Home
from ..store.certificates import Pair, own_files
from ..terminal import say
from ..terms import Refused
from .options import HomeOption, JsonOption, home_of

HOW = {"pop3": "STLS", "pop3s": "", "smtp": "STARTTLS", "submission": "STARTTLS", "submissions": ""}

app = App(name="tls", help="The certificates that TLS is spoken with.")


@app.command
def show(*, json_: JsonOption = False, home: HomeOption = "") -> None:
    """Every certificate: whom it is for and from, until when, its SHA-256 fingerprint, and where it is served.

    These are the files as they are now. A running server reads a changed one again within seconds, and keeps its old
    one if the new one is wrong; its log says so.
    """
    place = home_of(home)
    place.must_be_ours()
    settings = config.load(place.config)
    if not configured(settings) and not _own_is_there(place):
        raise Refused("there is no certificate yet: the server makes one at its first start")
    pairs = load_all(place, settings)
    if json_:
        listen = dict(config.keys(settings.listen))
        print(json.dumps({"certificates": [_as_json(pair, pair is pairs[0]) for pair in pairs], "listen": listen}))
        return
    for number, pair in enumerate(pairs):
        _describe(pair, first=number == 0, alone=len(pairs) == 1)
    say("Served on:")
    for protocol, addresses in config.keys(settings.listen):
        for address in addresses:
            say(f"  {protocol:12} {address}  {f'after {HOW[protocol]}' if HOW[protocol] else ''}".rstrip())


def check(place: Home, settings: Config) -> None:
    """Raises Refused, which names file and key, for certificates that a server could not start with."""
    if configured(settings) or _own_is_there(place):
        load_all(place, settings)


def _own_is_there(place: Home) -> bool:
    return all(map(os.path.exists, own_files(place.tls)))


def _describe(pair: Pair, *, first: bool, alone: bool) -> None:
    others = "every other name, and clients that ask for none"
    served = "every name" if alone else f"its names, and {others}" if first else "its names"
    facts = {
        "subject": _subject(pair),
        "issuer": "itself" if pair.self_signed else pair.leaf.issuer.rfc4514_string(),
        "until": f"{pair.leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        "SHA-256": pair.fingerprint,
        "serves": served,
        "file": pair.files[0],
        "key": pair.files[1],
    }
    say(f"certificate for {', '.join(pair.names) or 'no name'}", "bold")
    for name, value in facts.items():
        say(f"  {name:8} {value}")
    say()


def _subject(pair: Pair) -> str:
    return pair.leaf.subject.rfc4514_string() or "-"


def _as_json(pair: Pair, default: bool) -> dict[str, object]:
    """`default`: served to whoever asks for none of our names, too."""
    return {
        "names": list(pair.names),
        "default": default,
        "subject": pair.leaf.subject.rfc4514_string(),
        "issuer": pair.leaf.issuer.rfc4514_string(),
        "self_signed": pair.self_signed,
        "not_before": int(pair.leaf.not_valid_before_utc.timestamp()),
        "not_after": int(pair.leaf.not_valid_after_utc.timestamp()),
        "sha256": pair.fingerprint,
        "file": pair.files[0],
        "key": pair.files[1],
    }
