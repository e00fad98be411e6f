"""aiosmtpd as a smarthost: another's reading of RFC 5321 and RFC 4954, with STARTTLS and logins."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from .ports import HOST, free_port

NAME = "smarthost.test"
MESSAGE_OCTETS = 50 << 20
WAIT_SECONDS = 30.0
TAKEN = "250 2.0.0 taken"


@dataclass(frozen=True)
class Taken:
    """One message, with CRLF and without stuffing; `login` is None for who did not log in."""

    login: str | None
    encrypted: bool
    sender: str
    recipients: list[str]
    mail_options: list[str]
    content: bytes


@dataclass
class Smarthost:
    """`replies`: what to say to MAIL, RCPT or DATA (its end) in place of 250; may be changed at any time."""

    host: str
    port: int
    logins: Mapping[str, str]
    replies: dict[str, str] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    attempts: list[tuple[str, str]] = field(default_factory=list)  # mechanism and name of each login tried
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def route(self) -> str:
        """As `[delivery] smarthost` and `routes` want it."""
        return f"{self.host}:{self.port}"

    def wait_for(self, count: int) -> list[Taken]:
        """The messages, once there are so many. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.taken) >= count, WAIT_SECONDS):
                raise TimeoutError(f"{len(self.taken)} of {count} messages came")
        return self.taken

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        name, secret = data.login.decode(), data.password.decode()
        self.attempts.append((mechanism, name))
        return AuthResult(success=self.logins.get(name) == secret, handled=False, auth_data=data)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.logins and not session.authenticated:
            return "530 5.7.0 log in first"
        if "MAIL" in self.replies:
            return self.replies["MAIL"]
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if "RCPT" in self.replies:
            return self.replies["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if "DATA" in self.replies:
            return self.replies["DATA"]
        assert isinstance(envelope.content, bytes)
        data = session.auth_data
        login = data.login.decode() if isinstance(data, LoginPassword) else None
        sender, recipients = envelope.mail_from or "", list(envelope.rcpt_tos)
        with self._changed:
            encrypted = session.ssl is not None
            self.taken.append(
                Taken(login, encrypted, sender, recipients, list(envelope.mail_options), envelope.content)
            )
            self._changed.notify_all()
        return TAKEN


@contextlib.contextmanager
def smarthost(
    *, host: str = HOST, port: int = 0, context: ssl.SSLContext | None = None, logins: Mapping[str, str] | None = None
) -> Iterator[Smarthost]:
    """`context`: it offers STARTTLS (certificates.py), and AUTH only behind it. `logins`: name -> secret; only who has
    logged in may send. It offers PLAIN and LOGIN, SIZE, 8BITMIME and SMTPUTF8, and no PIPELINING.
    """
    made = Smarthost(host, port or free_port(host), logins or {})
    controller = Controller(
        made,
        hostname=host,
        port=made.port,
        server_hostname=NAME,
        ident=NAME,
        enable_SMTPUTF8=True,
        data_size_limit=MESSAGE_OCTETS,
        tls_context=context,
        auth_require_tls=context is not None,
        authenticator=made.authenticate,
    )
    controller.start()
    try:
        yield made
    finally:
        controller.stop()
