"""The commands `pillarbox device`: a secret of its own for each device, which can be revoked alone."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated

from cyclopts import App, Parameter

from .. import administration, config
from ..broker.certificates import configured
from ..broker.directory import Directory
from ..broker.privilege import as_user
from ..config import Config
from ..home import Home
from ..store.accounts import AccountStore
from ..store.certificates import own_files
from ..store.devices import Device, label_of
from ..store.passwd import PasswdAccounts
from ..store.secrets import generate
from ..terminal import say, table
from ..terms import Refused
from .client_settings import Doors, by_apop, under_tls
from .options import HomeOption, JsonOption, home_of

LONG_CHARACTERS = (
    64  # of base32: a rogue server learns 31 from left to right by MD5 collisions (CT-RSA 2008), 165 bits stay
)

ApopOption = Annotated[bool, Parameter(negative=(), show_default=False, help="Show the settings for APOP without TLS.")]
LongOption = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="The same, and a secret of 64 characters: it withstands a server that plays ours to learn it (CVE-2007-1558).",
    ),
]
NetworksOption = Annotated[
    list[str],
    Parameter(
        metavar="CIDR", consume_multiple=True, negative=(), show_default=False, help="It may log in from these alone."
    ),
]
SendOption = Annotated[
    bool,
    Parameter(negative=(), show_default=False, help="It may send mail too, after its login or by POP before SMTP."),
]

app = App(name="device", help="A secret of its own for each device of an account, which can be revoked alone.")


@app.command(usage="Usage: pillarbox device add ACCOUNT LABEL [OPTIONS]")
def add(
    account: str,
    label: str,
    /,
    *,
    apop: ApopOption = False,
    apop_long: LongOption = False,
    networks: NetworksOption = [],  # noqa: B006  (cyclopts reads the default, nobody changes it)
    send: SendOption = False,
    home: HomeOption = "",
) -> None:
    """Make a secret for one device, and show it, once, with what to set there.

    It logs in as ACCOUNT+LABEL or as ACCOUNT, by every mechanism, and may only fetch mail unless --send is given.
    """
    place, where = home_of(home), [_network(text) for text in networks]
    secret = generate(LONG_CHARACTERS) if apop_long else generate()
    with _opened(place) as (settings, store):
        full = _account(account, settings, store)
        store.devices.add(full, label, secret.encode(), where, sends=send)
    say(f"device {label_of(label)} of {full} added")
    _show(_doors(place, settings), full, label_of(label), secret, send=send, apop=apop or apop_long)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise Refused(f'"{text}" is no network such as 192.0.2.0/24 or 2001:db8::/32') from None


@contextlib.contextmanager
def _opened(place: Home) -> Iterator[tuple[Config, AccountStore]]:
    place.must_be_ours()
    with administration.opened(place) as (settings, store):
        yield settings, store


def _account(name: str, settings: Config, store: AccountStore) -> str:
    """The full name of an account of any source. Raises Refused."""

    def system_users(settings: Config) -> PasswdAccounts:
        return PasswdAccounts(settings.accounts.password_file, tuple(settings.domains), as_user)

    full = administration.account_name(name, settings)
    if Directory(settings, store, system_users).account(full) is None:
        raise Refused(f"there is no account {full}")
    return full


def _doors(place: Home, settings: Config) -> Doors:
    """Where the running server listens, else where it will."""
    state = place.read_status() if place.running() else None
    listen = state["listen"] if state and isinstance(state["listen"], dict) else dict(config.keys(settings.listen))
    return Doors(settings.hostname, listen, "" if configured(settings) else own_files(place.tls)[0])


def _show(doors: Doors, account: str, label: str, secret: str, *, send: bool, apop: bool) -> None:
    local, _, domain = account.partition("@")
    login = f"{local}+{label}@{domain}"
    say(f"login name: {login}")
    say(f"secret: {secret}")
    _show_code(secret)
    print("The secret is shown only this once.", file=sys.stderr)
    for head, lines in (
        ("Settings for a mail client:", under_tls(doors, account, login, sends=send)),
        ("For a client that knows no TLS:", by_apop(doors, login) if apop else []),
    ):
        if lines:
            say()
            say(head, "bold")
            for line in lines:
                say(line)


def _show_code(secret: str) -> None:
    """The secret as a QR code, for a device with a camera; on a terminal alone."""
    if sys.stdout.isatty():
        import segno

        segno.make(secret, micro=False).terminal(sys.stdout, compact=True)


@app.command(name="list", usage="Usage: pillarbox device list [ACCOUNT] [OPTIONS]")
def list_(
    account: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    json_: JsonOption = False,
    home: HomeOption = "",
) -> None:
    """The devices of ACCOUNT, or of all, with their last use; that is written down within about a minute.

    Columns: account, label, created, last login, from where, mechanism, networks, and whether it may send.
    """
    with _opened(home_of(home)) as (settings, store):
        full = administration.account_name(account, settings) if account else ""
        found = store.devices.of(full)
    if json_:
        print(json.dumps({"devices": [_as_json(device) for device in found]}))
    elif not found:
        print("no devices", file=sys.stderr)
    else:
        heads = ("Account", "Device", "Created", "Last login", "From", "Mechanism", "Networks", "Sends")
        table(heads, [_row(device) for device in found])


def _row(device: Device) -> tuple[str, ...]:
    used = device.used
    last = (_clock(used.time), used.address, used.mechanism) if used else ("never", "-", "-")
    networks = " ".join(device.networks) or "any"
    return (device.account, device.label, _clock(device.created), *last, networks, "yes" if device.sends else "no")


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _as_json(device: Device) -> dict[str, object]:
    """Times are Unix times; null: never used."""
    used = device.used
    return {
        "account": device.account,
        "label": device.label,
        "created": device.created,
        "networks": list(device.networks),
        "sends": device.sends,
        "used": {"time": used.time, "address": used.address, "mechanism": used.mechanism} if used else None,
    }


@app.command(usage="Usage: pillarbox device revoke ACCOUNT LABEL [OPTIONS]")
def revoke(account: str, label: str, /, *, home: HomeOption = "") -> None:
    """Its secret is void at once, for new logins and for sending; a session that lasts goes on to its end."""
    with _opened(home_of(home)) as (settings, store):
        full = administration.account_name(account, settings)
        store.devices.revoke(full, label)
    say(f"device {label.lower()} of {full} is revoked")
