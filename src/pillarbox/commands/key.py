"""The commands `pillarbox key`: the key that all secrets are sealed with."""

from __future__ import annotations

import os

from cyclopts import App

from ..terminal import say
from ..terms import Refused
from .options import HomeOption, home_of

app = App(name="key", help="The key that all secrets are sealed with.")


@app.command
def rotate(*, home: HomeOption = "") -> None:
    """Make a new key, and seal every secret anew with it. The server may run meanwhile, no secret changes.

    Grants to send (POP before SMTP) are void: their owners fetch mail once more. A backup of accounts.sqlite3, and the
    copy that an upgrade leaves, opens with the secret.key of its day alone: keep them together, or neither.
    """
    from ..administration import opened
    from ..store.key_rotation import rotate as anew

    place = home_of(home)
    place.must_be_ours()
    if not os.path.exists(place.accounts):
        raise Refused(f"nothing is sealed in {place.folder} yet")
    with opened(place) as (_, store):
        count, key_id = anew(place.key, store)
    secrets = "1 secret is" if count == 1 else f"{count} secrets are"
    say(f"{secrets} sealed with the new key {key_id}; the old key is gone from {place.key}")
