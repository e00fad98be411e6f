"""A real server for the tests of your own mail code: `with server(accounts={"alice": "secret"}) as mail: ...`

For pytest there is the fixture `pillarbox_server`, with one account, alice@example.test.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOMAIN = "example.test"
ALICE_SECRET = "correct-horse-battery-staple"
LOG = "log"  # beside the home
WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.01  # between two looks at a Maildir


@dataclass(frozen=True)
class Server:
    """A running server. Its accounts are local parts in `domain`; mail clients may log in with these alone."""

    host: str
    pop3_port: int
    smtp_port: int
    home: Path
    domain: str
    accounts: Mapping[str, str] = field(repr=False)  # name -> secret
    pid: int = 0
    submission_port: int = 0
    pop3s_port: int = 0
    submissions_port: int = 0

    def maildir(self, name: str) -> Path:
        """Where the mail of an account lies; the folder is there once mail has come. Use `deliver` to put mail there."""
        local, _, domain = name.partition("@")
        return self.home / "mail" / (domain or self.domain) / local

    def messages(self, name: str) -> list[bytes]:
        """What lies in the Maildir, the oldest first, with LF line ends and the trace header lines."""
        files = (file for folder in ("new", "cur") for file in (self.maildir(name) / folder).glob("*"))
        return [file.read_bytes() for file in sorted(files, key=lambda file: file.name)]

    def wait_for(self, name: str, wanted: Callable[[bytes], bool] = lambda _: True) -> list[bytes]:
        """The messages that are wanted, as soon as there is one: mail to several recipients is delivered after the 250.

        Raises TimeoutError.
        """
        until = time.monotonic() + WAIT_SECONDS
        while not (found := [message for message in self.messages(name) if wanted(message)]):
            if time.monotonic() > until:
                raise TimeoutError(f"no such message came for {name} within {WAIT_SECONDS:.0f} seconds")
            time.sleep(LOOK_SECONDS)
        return found

    def deliver(self, name: str, message: bytes) -> None:
        """Put a message into the Maildir as it is, octet for octet, as another delivery program would."""
        maildir = self.maildir(name)
        owner = (self.home / "mail").stat()
        for folder in (maildir.parent, maildir, *(maildir / part for part in ("tmp", "new", "cur"))):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(0o700)
                os.chown(folder, owner.st_uid, owner.st_gid)
        now = time.time_ns()
        unique = f"{now // 10**9}.T{now}P{os.getpid()}.{self.domain}"
        with open(maildir / "tmp" / unique, "xb") as file:
            os.fchmod(file.fileno(), 0o600)
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(message)
        (maildir / "tmp" / unique).rename(maildir / "new" / unique)

    @property
    def certificate(self) -> Path:
        """What a client must trust to believe that this is the server: it has made its certificate itself."""
        return self.home / "tls" / "certificate.pem"

    def log(self) -> str:
        """What the server has logged so far."""
        return (self.home.parent / LOG).read_text("ascii")


@contextlib.contextmanager
def server(
    accounts: Mapping[str, str] | None = None, *, domain: str = DOMAIN, config: Mapping[str, Any] | None = None
) -> Iterator[Server]:
    """A server on free ports of this machine, in a folder of its own, with these accounts (name -> secret).

    `config` overrides configuration keys, table by table: {"policy": {"plaintext": "refuse"}}. Raises
    terms.Refused for a wrong configuration or account, and RuntimeError, with the log, when the server does not start.
    """
    from .administration import new_account_name, opened
    from .demo import throw_away_home
    from .terms import Refused, TryLater
    from .tether import ServerProcess

    secrets = {"alice": ALICE_SECRET} if accounts is None else dict(accounts)
    for name, secret in secrets.items():
        if not secret or any(ord(letter) < 32 or ord(letter) == 127 for letter in secret):
            raise Refused(f"the secret of {name} is empty, or holds control characters")
    with throw_away_home() as home:
        with open(home.config, "w", encoding="utf-8") as file:
            file.write(_configuration(domain, config or {}))
        with opened(home, make=True) as (settings, store):
            for name, secret in secrets.items():
                store.add(new_account_name(name, settings), secret.encode())
        place = Path(home.folder)
        log = os.open(place.parent / LOG, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            process = ServerProcess(home.folder, log)
        finally:
            os.close(log)
        try:
            try:
                status = process.wait_until_ready()
            except TryLater as error:
                process.end()
                raise RuntimeError(f"{error.why}; its log:\n{(place.parent / LOG).read_text('ascii')}") from None
            yield _described(status, place, domain, secrets)
        finally:
            process.end()


def _configuration(domain: str, overrides: Mapping[str, Any]) -> str:
    import msgspec

    from .config import Config, to_toml

    tree: dict[str, Any] = msgspec.to_builtins(Config())
    listen = {protocol: ["127.0.0.1:0"] for protocol in tree["listen"]}
    ours = {
        "hostname": f"mail.{domain}",
        "domains": [domain],
        "listen": listen,
        "processes": {"network": 1, "workers": 1},
    }
    for changes in (ours, overrides):
        for key, value in changes.items():
            before = tree.get(key)
            tree[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, Mapping) else value
    return to_toml(tree)


def _described(status: dict[str, Any], home: Path, domain: str, accounts: Mapping[str, str]) -> Server:
    from .transcript import reachable

    places = {protocol: reachable(addresses[0]) for protocol, addresses in status["listen"].items() if addresses}
    host = next(iter(places.values()), ("127.0.0.1", 0))[0]
    ports = {protocol: port for protocol, (_, port) in places.items()}
    return Server(
        host,
        ports.get("pop3", 0),
        ports.get("smtp", 0),
        home,
        domain,
        accounts,
        status["pid"],
        ports.get("submission", 0),
        ports.get("pop3s", 0),
        ports.get("submissions", 0),
    )


try:
    import pytest
except ImportError:
    pass  # the context manager needs no pytest
else:

    @pytest.fixture
    def pillarbox_server() -> Iterator[Server]:
        """A server of this test alone, with the account alice and the secret testing.ALICE_SECRET."""
        with server() as running:
            yield running
