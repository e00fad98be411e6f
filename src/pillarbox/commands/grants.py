"""The commands `pillarbox grants`: who may send because of a login by POP3, and an end to it."""

from __future__ import annotations

import hmac
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from .. import config
from ..config import Config
from ..home import Home
from ..terminal import say, table
from ..terms import Misuse, Refused
from .options import HomeOption, JsonOption, home_of

if TYPE_CHECKING:
    from ..store.grants import Grants, StoredGrant
    from ..terms import Grant

WhoArgument = Annotated[str, Parameter(show_default=False)]
AllOption = Annotated[bool, Parameter("--all", negative=(), show_default=False, help="All grants there are.")]

HEADS = ("Address", "Account", "Login", "Since", "Until", "Messages left", "Recipients left")

app = App(name="grants", help="Who may send for a while, having fetched mail by POP3.")


@app.command(name="list")
def list_(*, json_: JsonOption = False, home: HomeOption = "") -> None:
    """All grants that are live, the oldest first: those of a secret that has been changed since are none.

    Columns: address, account, login, since, until, messages left, recipients left. Without a terminal there are no
    headings, and tabs between the columns.
    """
    place = home_of(home)
    grants, settings = _opened(place)
    found = list(_live(place, grants, settings))
    found.sort(key=lambda grant: (grant.created, grant.address, grant.account))
    counted = settings.relay.style != "classic"
    if json_:
        print(json.dumps({"grants": [_as_json(grant, counted) for grant in found]}))
    elif found:
        table(HEADS, [_row(grant, counted) for grant in found])
    else:
        print("no grants", file=sys.stderr)


@app.command(usage="Usage: pillarbox grants revoke WHO | --all [OPTIONS]")
def revoke(who: WhoArgument = "", /, *, all_: AllOption = False, home: HomeOption = "") -> None:
    """End the grants of an address or of an account at once. The next login by POP3 makes a new one.

    WHO is an address; or an account, local@domain, or local for the first of our domains.
    """
    if who and all_:
        raise Misuse(f'--all revokes every grant: leave out "{who}", or --all')
    if not who and not all_:
        raise Misuse("name an address, an account, or --all")
    grants, settings = _opened(home_of(home))
    if all_:
        count = grants.revoke_all()
        say("all grants are revoked" if count else "there were no grants")
    elif not _revoke(grants, who, settings):
        raise Refused(f'"{who}" has no grant')
    else:
        say(f"{who} has no grant any more")


def _opened(place: Home) -> tuple[Grants, Config]:
    """The grants of a home, whether a server runs on it or not. Raises Refused."""
    from ..store.grant_key import boot_id, grant_key
    from ..store.grants import Grants
    from ..store.secrets import load_key

    place.must_be_ours()
    settings = config.load(place.config)
    relay = settings.relay
    if not relay.directory and not os.path.isdir(place.grants):
        raise Refused(f"no server has run on {place.folder} yet: there are no grants")
    grants = Grants(
        relay.directory or place.grants,
        key=grant_key(load_key(place.key, create=False)),
        boot=boot_id(),
        expiry=relay.expiry,
        messages=relay.messages,
        recipients=relay.recipients,
        classic=relay.style == "classic",
    )
    return grants, settings


def _live(place: Home, grants: Grants, settings: Config) -> Iterator[Grant]:
    """The grants that a server would believe. Raises Refused and TryLater."""
    from ..administration import opened
    from ..store.grant_key import grant_key, monotonic
    from ..store.secrets import load_key

    every = list(grants.every(time.time(), monotonic()))
    judged = settings.relay.style != "classic" and settings.accounts.source[0] == "local"
    if not (every and judged and os.path.exists(place.accounts)):
        yield from (stored.grant for stored in every)
        return
    key = grant_key(load_key(place.key, create=False))
    with opened(place) as (_, store):
        for stored in every:
            there, secret = store.login(stored.grant.account)
            secrets = [
                secret or b"",
                *(device.secret for device in store.credentials(stored.grant.account) if device.sends),
            ]
            if _holds(stored, secrets, key) if there else settings.accounts.source != ["local"]:
                yield stored.grant


def _holds(stored: StoredGrant, secrets: list[bytes], key: bytes) -> bool:
    """A grant is void as soon as the secret it was made with is gone."""
    from ..store.grant_key import fingerprint_of

    account = stored.grant.account
    return any(
        secret and hmac.compare_digest(fingerprint_of(secret, account, key), stored.fingerprint) for secret in secrets
    )


def _revoke(grants: Grants, who: str, settings: Config) -> bool:
    """False where there was nothing to revoke. Raises Refused for what is neither an address nor an account's name."""
    from ..administration import account_name
    from ..store.grant_file import file_name

    if file_name(who) is not None:
        return grants.revoke(who)
    return grants.revoke_account(account_name(who, settings)) > 0


def _row(grant: Grant, counted: bool) -> tuple[str, ...]:
    left = (str(grant.messages), str(grant.recipients)) if counted else ("any", "any")
    return (grant.address, grant.account, grant.mechanism, _clock(grant.created), _clock(grant.expires), *left)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _as_json(grant: Grant, counted: bool) -> dict[str, object]:
    """Times are Unix times; counts are null where nothing is counted."""
    return {
        "address": grant.address,
        "account": grant.account,
        "mechanism": grant.mechanism,
        "since": grant.created,
        "until": grant.expires,
        "messages": grant.messages if counted else None,
        "recipients": grant.recipients if counted else None,
    }
