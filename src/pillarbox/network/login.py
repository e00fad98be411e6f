"""Logins as a connection sees them: what it may offer, and how it asks the broker."""

from __future__ import annotations

from .. import messages
from ..policy import mechanisms
from ..policy.mechanisms import Offer
from ..terms import Attempt
from .connection import Connection
from .secured import Secured


def offer(connection: Connection, *, secured: bool, submission: bool = False) -> Offer:
    """What this client may use; under TLS it is asked again once the certificate is known."""
    process = connection.process
    policy = process.config.policy
    return mechanisms.offered(
        policy.profile,
        policy.plaintext,
        trusted=process.trusted.contains(connection.peer),
        secured=secured,
        bound=bool(_end_point(connection)),
        submission=submission,
    )


def question(
    connection: Connection, attempt: Attempt, response: bytes | None, challenge: bytes, *, submission: bool = False
) -> messages.Login | messages.LoginStep:
    """For the broker. `challenge`: names the connection to it, whatever the mechanism."""
    if response is not None:
        return messages.LoginStep(connection.number, response)
    kind = messages.Authenticate if submission else messages.Login
    return kind(
        connection.number,
        attempt.name,
        attempt.proof,
        attempt.mechanism.value,
        challenge,
        attempt.secured,
        connection.peer,
        connection.tls[0],
        _end_point(connection),
    )


def _end_point(connection: Connection) -> bytes:
    sock = connection.sock
    return sock.end_point if isinstance(sock, Secured) else b""
