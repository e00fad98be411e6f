"""Commands to the running server, over HOME/run/control."""

from __future__ import annotations

from ..home import Home
from ..local_messages import Command, NotTaken, ToCommander
from ..local_socket import Caller, connect
from ..terms import Refused, TryLater

ANSWER_SECONDS = 60.0  # the server may have to wait for its disk


def ask(place: Home, verb: str, argument: str) -> str | None:
    """What the running server says to a command; None where none runs. Raises Refused and TryLater."""
    try:
        sock = connect(place.control)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise Refused(f"the server on {place.folder} can't be commanded by you: {error.strerror}") from None
    caller: Caller[ToCommander] = Caller(sock, ToCommander, ANSWER_SECONDS)
    try:
        caller.say(Command(verb, argument))
        answer = caller.hear()
    finally:
        caller.close()
    if isinstance(answer, NotTaken):
        raise TryLater(answer.text) if answer.code.startswith("4") else Refused(answer.text)
    return answer.text
