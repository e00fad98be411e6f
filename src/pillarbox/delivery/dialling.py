"""Opening a connection to a mail exchanger: greeting, EHLO, STARTTLS, AUTH. Why it did not work is Unreachable."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponseException

from ..protocol.exchanger_reply import first_word, reply
from ..terms import Outcome
from .conversation import Conversation, Patience
from .exchangers import Target

NOT_UNDERSTOOD = (500, 501, 502, 503, 504)  # what hosts say to EHLO that know HELO alone (RFC 5321 section 3.2)
# Nobody is there, or no way leads there; all else may be our own trouble, such as too many open files.
_NOBODY = {errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL}


class Unreachable(Exception):
    """No conversation. `outcome`: of all recipients, should no other exchanger do better; `dead`: nobody is there."""

    def __init__(self, outcome: Outcome, *, dead: bool = False) -> None:
        super().__init__(outcome.text or outcome.reply)
        self.outcome, self.dead = outcome, dead


class _NoTls(Exception):
    """STARTTLS was offered, and failed; its argument says why."""


@dataclass(frozen=True, slots=True)
class Login:
    """How we log in at the smarthost."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Demands:
    """What a connection must have."""

    secured: bool = False  # only under TLS, to a host that proves its name
    login: Login | None = None
    loops: bool = True  # a host that greets by our name is us


class Dialler:
    """Opens conversations. TLS is used wherever it is offered, and a stranger's certificate is looked at only where TLS is
    required: elsewhere any encryption is better than none (RFC 7435)."""

    def __init__(self, hostname: str, *, ca_file: str = "", patience: Patience | None = None) -> None:
        """`hostname`: what we call ourselves. Raises OSError for a CA file that can't be used."""
        self._hostname = hostname
        self._patience = patience or Patience()
        self._proving = ssl.create_default_context(cafile=ca_file or None)
        self._trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trusting.check_hostname = False
        self._trusting.verify_mode = ssl.CERT_NONE

    async def dial(self, target: Target, demands: Demands) -> Conversation:
        """Raises Unreachable."""
        try:
            return await self._attempt(target, demands, tls=True)
        except _NoTls as failed:
            if demands.secured:
                raise Unreachable(_delayed(target, "4.7.5", str(failed))) from None
        conversation = await self._attempt(target, demands, tls=False)
        conversation.fell_back = True
        return conversation

    async def _attempt(self, target: Target, demands: Demands, *, tls: bool) -> Conversation:
        smtp = SMTP(
            hostname=target.host,
            local_hostname=self._hostname,
            start_tls=False,
            timeout=self._patience.command,
            sock=await self._connected(target),
        )
        conversation = None
        try:
            await self._greet(smtp, target, demands)
            version = await self._encrypt(smtp, target, demands) if tls else ""
            if demands.login is not None:
                await _log_in(smtp, target, demands.login, proven=demands.secured)
            conversation = Conversation(target, smtp, self._patience, tls=version)
            return conversation
        except SMTPResponseException as error:
            raise _refused(target, error) from None
        except (SMTPException, OSError) as error:
            late = isinstance(error, TimeoutError)
            what = "did not answer in time" if late else "ended the connection before it took anything"
            raise Unreachable(_delayed(target, "4.4.2", f"{target.address} {what}"), dead=late) from None
        finally:
            if conversation is None:
                smtp.close()

    async def _connected(self, target: Target) -> socket.socket:
        """Raises Unreachable."""
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            connecting = asyncio.get_running_loop().sock_connect(sock, (target.address, target.port))
            await asyncio.wait_for(connecting, self._patience.connect)
            return sock
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            why = "no answer" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
            dead = isinstance(error, TimeoutError) or error.errno in _NOBODY
            where = f"{target.address} port {target.port}"
            raise Unreachable(_delayed(target, "4.4.1", f"{where} can't be reached: {why}"), dead=dead) from None

    async def _greet(self, smtp: SMTP, target: Target, demands: Demands) -> None:
        """Greeting and EHLO, or HELO where that is not understood. Raises Unreachable, and aiosmtplib's exceptions."""
        greeting = await smtp.connect(timeout=self._patience.greeting)
        try:
            await smtp.ehlo()
        except SMTPHeloError as error:
            if error.code not in NOT_UNDERSTOOD:
                raise
            await smtp.helo()
        answer = smtp.last_ehlo_response or smtp.last_helo_response
        names = {first_word(greeting.message), first_word(answer.message if answer else "")}
        if demands.loops and self._hostname.lower() in names:
            why = "the exchanger greets by our own name: mail for this domain leads back to this very host"
            raise Unreachable(Outcome("failed", "5.4.6", why, target.host))

    async def _encrypt(self, smtp: SMTP, target: Target, demands: Demands) -> str:
        """STARTTLS where it is offered: the version of TLS. Raises _NoTls, Unreachable and aiosmtplib's exceptions."""
        if not smtp.supports_extension("starttls"):
            if demands.secured:
                raise Unreachable(_delayed(target, "4.7.4", "TLS is required here, and the exchanger offers none"))
            return ""
        context = self._proving if demands.secured else self._trusting
        try:
            greeted = smtp.starttls(tls_context=context, server_hostname=target.host)
            await asyncio.wait_for(greeted, self._patience.handshake)
        except ssl.SSLCertVerificationError as error:
            raise _NoTls(f"the exchanger does not prove its name: {error.verify_message}") from None
        except (SMTPException, OSError, ValueError) as error:
            raise _NoTls(f"TLS with the exchanger failed ({type(error).__name__})") from None
        await smtp.ehlo()
        return str(smtp.get_transport_info("ssl_object").version())


async def _log_in(smtp: SMTP, target: Target, login: Login, *, proven: bool) -> None:
    """A password goes only to a host that has proved its name, or to this machine. Raises Unreachable."""
    safe = proven or _is_this_machine(target.address)
    offered = smtp.server_auth_methods
    if safe and "plain" in offered:
        method = smtp.auth_plain
    elif "cram-md5" in offered:
        method = smtp.auth_crammd5
    elif safe and "login" in offered:
        method = smtp.auth_login
    else:
        why = "the smarthost offers no login under which our password is safe: CRAM-MD5, or PLAIN under proven TLS"
        raise Unreachable(_delayed(target, "4.7.0", why))
    try:
        await method(login.user, login.secret)
    except SMTPResponseException as error:  # its text may repeat what we sent
        raise Unreachable(_delayed(target, "4.7.0", f"the smarthost refused our login ({error.code})")) from None


def _is_this_machine(address: str) -> bool:
    return ip_address(address).is_loopback


def _refused(target: Target, error: SMTPResponseException) -> Unreachable:
    """A host that does not want to talk: another one may, later (RFC 5321 section 3.8 and 4.5.4.1)."""
    answer = reply(error.code, error.message)
    if not answer.known:
        return Unreachable(_delayed(target, "4.5.0", "the exchanger speaks no SMTP"))
    outcome = answer.outcome(target.host)
    status = "4" + outcome.status[1:]
    return Unreachable(
        replace(outcome, action="delayed", status=status, text="the exchanger does not want to talk to us")
    )


def _delayed(target: Target, status: str, why: str) -> Outcome:
    return Outcome("delayed", status, why, target.host)
