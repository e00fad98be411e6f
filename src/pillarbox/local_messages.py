"""What programs on this machine and our server say to each other: over HOME/public/send, where every user may hand in
mail, and over HOME/run/control, which is closed to all but root and the server's owner.

Handing in, one message a connection: Greeting, Begin, Begun, Data ..., End, Queued. Commanding: Command, Done, and
again. At any point the server may say NotTaken, and then hangs up.
"""

from __future__ import annotations

from typing import Literal

from .messages import Message

Came = Literal["", "smtp", "relay"]
"""How a message came to the program that hands it in: written on this machine; from a stranger, over SMTP, to be let in
only for us; over SMTP from one who may send to other hosts, too."""

# server -> client


class Greeting(Message, frozen=True, tag=100):
    """The first word on HOME/public/send: what a client needs to complete a message, and what would be refused."""

    hostname: bytes
    domain: bytes  # for addresses that name none
    octets: int  # that a message may have at most, line ends counted as two
    recipients: int  # that it may have at most


class Begun(Message, frozen=True, tag=101):
    """The envelope is taken; send the message. `sender`: the reverse-path that is used; empty: the null one."""

    sender: bytes


class Queued(Message, frozen=True, tag=102):
    """Message and envelope are durable."""

    identity: str


class NotTaken(Message, frozen=True, tag=103):
    """Nothing was done. `code`: of RFC 3463; its class says whether to try later (4) or never (5)."""

    code: str
    text: str


class Done(Message, frozen=True, tag=104):
    """The command has been obeyed; `text` is for a person."""

    text: str


# client -> server


class Begin(Message, frozen=True, tag=110):
    """The envelope (see terms.Envelope). `sender`: None where none was named; empty: the null one."""

    sender: bytes | None
    recipients: tuple[bytes, ...]
    notify: tuple[str, ...] = ()  # RFC 3461, for each recipient
    ret: str = ""
    envid: bytes = b""  # xtext
    octets: int = 0  # the message's, about
    came: Came = ""  # believed of the users in queue.smtpd_users, of root and of the server's owner
    asks: bool = False  # whether it would be taken: Begun or NotTaken is the last word


class Data(Message, frozen=True, tag=111):
    """The next octets of the message, as stored lines: LF ends one, and there is no CR."""

    content: bytes


class End(Message, frozen=True, tag=112):
    """The message is whole."""


class Command(Message, frozen=True, tag=120):
    """`verb` with its argument, which may be empty: see delivery.control."""

    verb: str
    argument: str


FromSender = Begin | Data | End
ToSender = Greeting | Begun | Queued | NotTaken
FromCommander = Command
ToCommander = Done | NotTaken
