"""A login of several steps, which SCRAM is, between network process and broker: tags 19 and 29."""

from __future__ import annotations

from .message import Message


class LoginStep(Message, frozen=True, tag=19):
    """(network -> broker) The client's answer to a LoginChallenge; answered as the Login that it goes on with."""

    session: int
    response: bytes

    def __repr__(self) -> str:
        return f"LoginStep(session={self.session}, response=***)"


class LoginChallenge(Message, frozen=True, tag=29):
    """(broker -> network) A login needs more: pass this on to the client, and come back with LoginStep."""

    session: int
    challenge: bytes

    def __repr__(self) -> str:
        return f"LoginChallenge(session={self.session}, challenge=***)"
