"""The commands `pillarbox dkim`: keys that sign outgoing mail, and the DNS records that let others check it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import App, Parameter

from .. import config
from ..broker.privilege import as_user
from ..config import Config
from ..home import Home
from ..protocol.dkim import is_domain, record, record_name, zone_line
from ..terminal import say, table
from ..terms import Misuse, Refused
from .options import HomeOption, home_of

SUFFIXES = {"rsa": "-rsa", "ed25519": "-ed"}  # of a selector, where it names one of two keys

OneDomain = Annotated[str, Parameter(show_default=False)]
OneSelector = Annotated[str, Parameter(show_default=False)]
SelectorOption = Annotated[
    str,
    Parameter(
        "--selector", metavar="NAME", show_default=False, help="The key's name in DNS; default sYYYYMM-rsa, -ed."
    ),
]
TypeOption = Annotated[Literal["rsa", "ed25519", "both"], Parameter("--type", help="Not every receiver knows ed25519.")]

app = App(name="dkim", help="Keys that sign outgoing mail (DKIM), and the DNS records to publish.")


@app.command(usage="Usage: pillarbox dkim add [DOMAIN] [OPTIONS]")
def add(
    domain: OneDomain = "", /, *, selector: SelectorOption = "", type_: TypeOption = "both", home: HomeOption = ""
) -> None:
    """Make keys for DOMAIN, by default the first of our domains. Its mail is signed from now on, without a restart."""
    from ..store import dkim_keys

    place = home_of(home)
    settings = config.load(place.config)
    name = _own_domain(domain, settings)
    kinds = ["rsa", "ed25519"] if type_ == "both" else [type_]
    names = [_selector(selector, kind, alone=type_ != "both") for kind in kinds]
    keys = [dkim_keys.Key(name, chosen, dkim_keys.generate(kind)) for kind, chosen in zip(kinds, names, strict=True)]
    place.prepare(place.identities(settings))
    with _owner_of_keys(place, settings):
        _check_room(dkim_keys.selectors(place.dkim, name), names, name)
        for key in keys:
            dkim_keys.add(place.dkim, key)
    for chosen in sorted(names):
        _show(place, settings, name, chosen)
    print("Publish these records: until then the signatures count for nothing.", file=sys.stderr)


@app.command(name="list")
def list_(*, home: HomeOption = "") -> None:
    """All keys: domain, selector, type, and what is wrong with it where anything is; tabs between for programs."""
    place, settings = _opened(home)
    rows = []
    for domain, selector in _all(place, settings):
        kind, note = _kind(place, settings, domain, selector)
        rows.append((domain, selector, kind, note))
    if not rows:
        print("no keys: mail goes out unsigned", file=sys.stderr)
        return
    noted = any(row[3] for row in rows)
    table(("Domain", "Selector", "Type", *(("Note",) * noted)), [row if noted else row[:3] for row in rows])


@app.command(usage="Usage: pillarbox dkim show [DOMAIN [SELECTOR]] [OPTIONS]")
def show(domain: OneDomain = "", selector: OneSelector = "", /, *, home: HomeOption = "") -> None:
    """The DNS records of all keys, or of those of DOMAIN, or of one."""
    place, settings = _opened(home)
    wanted = [
        (name, chosen)
        for name, chosen in _all(place, settings)
        if domain.lower() in ("", name) and selector.lower() in ("", chosen)
    ]
    if not wanted:
        raise Refused(" ".join(("there is no key", *filter(None, (selector, domain and f"of {domain}")))))
    complaints = []
    for name, chosen in wanted:
        try:
            _show(place, settings, name, chosen)
        except Refused as error:
            complaints.append(error.why)
    if complaints:
        raise Refused("; ".join(complaints))


@app.command
def remove(domain: str, selector: str, /, *, home: HomeOption = "") -> None:
    """Remove a key. Leave its record in DNS for some days more: mail that it signed is still on its way."""
    from ..store import dkim_keys

    place, settings = _opened(home)
    name, chosen = _checked("domain", domain), _checked("selector", selector)
    with _owner_of_keys(place, settings):
        dkim_keys.remove(place.dkim, name, chosen)
    say(f"key {chosen} of {name} removed")


@dataclass(frozen=True, slots=True)
class Published:
    """What the DNS should say of a key; `trouble`: why it is not used, and no record is known."""

    domain: str
    selector: str
    record: str = ""
    trouble: str = ""


def published(place: Home, settings: Config) -> Iterator[Published]:
    """One for each key of ours. Raises Refused where we may not look."""
    from ..store import dkim_keys

    for domain, selector in _all(place, settings):
        try:
            with _owner_of_keys(place, settings):
                key = dkim_keys.load(place.dkim, domain, selector)
        except Refused as error:
            yield Published(domain, selector, trouble=error.why)
        else:
            yield Published(domain, selector, record(key.algorithm, key.public))


def _own_domain(domain: str, settings: Config) -> str:
    """One of ours, or a parent of one: nobody else's mail would be signed."""
    name = _checked("domain", domain or settings.domains[0])
    if not any(f".{own}".endswith(f".{name}") for own in settings.domains):
        raise Refused(f"{name} is no domain of ours; `domains` in pillarbox.toml says: {', '.join(settings.domains)}")
    return name


def _selector(chosen: str, kind: str, *, alone: bool) -> str:
    name = chosen or time.strftime("s%Y%m", time.gmtime())
    return _checked("selector", name if alone and chosen else name + SUFFIXES[kind])


def _checked(what: str, name: str) -> str:
    lower = name.lower()
    if not is_domain(lower):
        raise Misuse(f'"{name}" is no {what}: letters, digits and hyphens, with dots between')
    return lower


def _check_room(there: list[str], names: list[str], domain: str) -> None:
    from ..store.dkim_keys import LIMIT

    for name in names:
        if name in there:
            raise Refused(f"there is a key {name} of {domain} already: name another one with --selector")
    if len(there) + len(names) > LIMIT:
        raise Refused(f"{domain} has the keys {', '.join(there)}; more than {LIMIT} would go unused: remove one first")


def _opened(folder: str) -> tuple[Home, Config]:
    place = home_of(folder)
    place.must_be_ours()
    return place, config.load(place.config)


@contextlib.contextmanager
def _owner_of_keys(place: Home, settings: Config) -> Iterator[None]:
    """The queue's user, as which keys are made and read: root does not touch what another user could have prepared."""
    uid, gid = place.identities(settings).queue
    if uid is None or gid is None:
        yield
    else:
        with as_user(uid, gid):
            yield


def _all(place: Home, settings: Config) -> list[tuple[str, str]]:
    from ..store import dkim_keys

    with _owner_of_keys(place, settings):
        return [
            (domain, selector)
            for domain in dkim_keys.domains(place.dkim)
            for selector in dkim_keys.selectors(place.dkim, domain)
        ]


def _kind(place: Home, settings: Config, domain: str, selector: str) -> tuple[str, str]:
    """The type of a key, and what is wrong with it."""
    from ..store import dkim_keys

    try:
        with _owner_of_keys(place, settings):
            return dkim_keys.load(place.dkim, domain, selector).algorithm, ""
    except Refused as error:
        return "-", f"not used: {error.why}"


def _show(place: Home, settings: Config, domain: str, selector: str) -> None:
    from ..store import dkim_keys

    with _owner_of_keys(place, settings):
        key = dkim_keys.load(place.dkim, domain, selector)
    name, text = record_name(domain, selector), record(key.algorithm, key.public)
    say(f"key {selector} of {domain} ({key.algorithm})", "bold")
    say(f"  name   {name}")
    say("  type   TXT")
    say(f"  value  {text}")
    say("  as a line of a zone file:")
    say(zone_line(name, text))
    say()
