"""Handing a message to the server over HOME/public/send, as every program of this machine may: finding the server, and
the words in their order."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .home import ROOT_HOME, VARIABLE, Home, default_folder
from .local_messages import Begin, Begun, Data, End, Greeting, NotTaken, Queued, ToSender
from .local_socket import Caller, connect
from .terms import Refused, TryLater

ANSWER_SECONDS = 180.0  # the server asks its broker, and waits for its disk

Submitter = Caller[ToSender]


class NoServer(TryLater):
    """None runs where one was looked for."""


def places(home: str = "") -> list[str]:
    """The homes where a server may run, in the order in which they are asked. `home`: the one that was named, if any."""
    if home or os.environ.get(VARIABLE):
        return [os.path.abspath(home or default_folder())]
    own = default_folder()
    return [own, ROOT_HOME] if own != ROOT_HOME and os.path.exists(Home(own).send) else [ROOT_HOME]


def call(home: str = "") -> Submitter:
    """The first server that answers. Raises TryLater."""
    tried = places(home)
    for folder in tried:
        try:
            return Caller(connect(Home(folder).send), ToSender, ANSWER_SECONDS)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            continue
        except OSError as error:
            raise TryLater(f"the server on {folder} can't be reached: {error.strerror}; nothing was sent") from None
    raise NoServer(
        f"no server runs on {' or '.join(tried)}; nothing was sent, so try again when one does;"
        f" another home is named by --home DIR or ${VARIABLE}"
    )


def greeting(caller: Submitter) -> Greeting:
    """The server's first word. Raises Refused, TryLater."""
    word = _heard(caller)
    assert isinstance(word, Greeting)
    return word


def begin(caller: Submitter, envelope: Begin) -> Begun:
    """The envelope is taken. Raises Refused, TryLater."""
    caller.say(envelope)
    word = _heard(caller)
    assert isinstance(word, Begun)
    return word


def finish(caller: Submitter, content: Iterable[bytes]) -> str:
    """The message, as stored lines, in parts of at most local_socket.CHUNK octets; its id in the queue, once it is
    durable. Raises Refused, TryLater."""
    if all(caller.say(Data(part)) for part in content):
        caller.say(End())
    word = _heard(caller)
    assert isinstance(word, Queued)
    return word.identity


def _heard(caller: Submitter) -> Greeting | Begun | Queued:
    word = caller.hear()
    if not isinstance(word, NotTaken):
        return word
    if word.code.startswith("4"):
        raise TryLater(word.text, word.code)
    raise Refused(word.text, word.code)
