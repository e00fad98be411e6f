"""Pillarbox as `pillarbox serve` runs it, with the home folder's defaults, and more connections than those allow."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pillarbox
from pillarbox.store.accounts import AccountStore
from pillarbox.store.secrets import Seal, load_key

from . import sink
from .mail import DOMAIN, MAIL_UID, give
from .servers import Server, free_port

QUEUE_UID = 61811  # whom the queue belongs to where servers start as root

_CONFIG = """\
hostname = "mail.{domain}"
domains = ["{domain}"]
[listen]
pop3 = ["127.0.0.1:{pop3}"]
smtp = ["127.0.0.1:{smtp}"]
submission = []
pop3s = []
submissions = []
[limits]
connections = 12000
[relay]
messages = 1000000000
recipients = 1000000000
[delivery]
routes = {{ "{sink_domain}" = "127.0.0.1:{sink_port}" }}
[users]
queue = {queue_uid}
mail = {uid}
"""


def server(folder: Path, accounts: Iterable[tuple[str, str]], sink_port: int) -> Server:
    """A home folder below `folder`, with accounts of these local parts and secrets; mail to the sink goes to that port."""
    home = folder / "pillarbox"
    home.mkdir(mode=0o711)
    mail = home / "mail" / DOMAIN
    for path in (mail.parent, mail):
        path.mkdir(mode=0o700)
        give(path)
    pop3, smtp = free_port(), free_port()
    (home / "pillarbox.toml").write_text(
        _CONFIG.format(
            domain=DOMAIN,
            pop3=pop3,
            smtp=smtp,
            uid=MAIL_UID,
            queue_uid=QUEUE_UID,
            sink_domain=sink.DOMAIN,
            sink_port=sink_port,
        )
    )
    store = AccountStore(f"{home}/accounts.sqlite3", Seal(load_key(f"{home}/secret.key")), f"{home}/mail")
    try:
        for local, secret in accounts:
            store.add(f"{local}@{DOMAIN}", secret.encode())
    finally:
        store.close()
    return Server(
        name="Pillarbox",
        version=pillarbox.__version__,
        command=[sys.executable, "-m", "pillarbox", "serve", "--home", str(home)],
        log=folder / "pillarbox.log",
        mail=mail,
        pop3=pop3,
        smtp=smtp,
        queues=(home / "queue" / "envelope",),
    )
