"""Commands to the running server, over HOME/run/control: root's, and those of whoever owns the server.

The verbs that the queue has: `retry ID` (try this message now), `retry` (all of them), `flush` (the same, and forget
which hosts are dead), `hold ID` (try it no more until it is released), `release ID`, `remove ID` (nobody is told).
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping

from .. import local_socket, log
from ..local_messages import Command, Done, FromCommander, NotTaken
from ..terms import Refused, TryLater
from .visitors import Visitor, Visitors

CONNECTIONS_LIMIT = 16

Verb = Callable[[str], Awaitable[str]]


class Control:
    """Serves the listening socket until `close`."""

    def __init__(self, listener: socket.socket, verbs: Mapping[str, Verb]) -> None:
        """Owns the listener; needs a running loop. A verb gets the argument of its command (an id, or nothing), returns
        what a person is told, and may raise Refused and TryLater."""
        self._verbs = verbs
        _, owner = local_socket.peer(listener)
        self._allowed = {0, owner}
        limit = CONNECTIONS_LIMIT
        self._visitors = Visitors(listener, FromCommander, self._serve, limit=limit, limit_per_uid=limit)

    def close(self) -> None:
        self._visitors.close()

    async def settled(self) -> None:
        """What is being done is done; who is still to say something is told to try later. After `close`."""
        await self._visitors.settled()

    async def _serve(self, visitor: Visitor) -> None:
        """Command after command, until the visitor hangs up. The socket's mode keeps others out; this is a second lock."""
        if visitor.uid not in self._allowed:
            log.line("visitor-refused", uid=visitor.uid, pid=visitor.pid, why="may not command this server")
            await visitor.say(NotTaken("5.7.1", "this server is commanded by root and by its owner"))
            return
        while True:
            word = await visitor.hear()
            assert isinstance(word, Command)
            await visitor.say(await self._obey(visitor, word))

    async def _obey(self, visitor: Visitor, command: Command) -> Done | NotTaken:
        verb = self._verbs.get(command.verb)
        if verb is None:
            return NotTaken("5.5.1", "the server does not know this command: is it of an older version?")
        argument = command.argument or None
        try:
            text = await verb(command.argument)
        except (Refused, TryLater) as error:
            log.line("command-refused", uid=visitor.uid, verb=command.verb, argument=argument, why=error.why)
            return NotTaken(error.code or ("4.3.0" if isinstance(error, TryLater) else "5.0.0"), error.why)
        except Exception as error:
            log.bug(error, where="control")
            return NotTaken("4.3.0", "the server has failed in this; its log says why")
        log.line("command", uid=visitor.uid, verb=command.verb, argument=argument)
        return Done(text)
