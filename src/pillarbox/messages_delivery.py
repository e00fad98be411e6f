"""What is said to the delivery process and by it, in the way of messages.py."""

from __future__ import annotations

from .messages import Abort, Committed, Deliver, DeliveryDone, Instruct, Instructed, Message, SlotOpened, SlotRefused

ANYBODY = "*"  # in place of an account: whoever runs this host has handed it in, and may write as anybody

# parent -> delivery


class Flush(Message, frozen=True, tag=79):
    """Try all that waits now, and forget which hosts are dead: qmail-send does so at SIGALRM."""


# network -> delivery


class WantQueueSlot(Message, frozen=True, tag=70):
    session: int


class CommitQueue(Message, frozen=True, tag=71):
    """Make the message in the slot durable: see terms.Envelope."""

    session: int
    sender: bytes
    recipients: tuple[bytes, ...]
    peer: str
    wishes: tuple[tuple[tuple[str, ...], bytes], ...] = ()  # of each recipient: NOTIFY and ORCPT
    ret: str = ""
    envid: bytes = b""
    utf8: bool = False
    login: int = 0
    submission: bool = False  # it came in where mail is handed in


# delivery -> broker and back


class ResolveAll(Message, frozen=True, tag=80):
    """Where does mail for these recipients go?"""

    delivery: int
    recipients: tuple[bytes, ...]


class ResolvedAll(Message, frozen=True, tag=81):
    """One entry for each recipient."""

    delivery: int
    locals: tuple[bool, ...]  # its domain is ours
    accounts: tuple[tuple[str, ...], ...]  # whose mailboxes it leads to
    forwards: tuple[tuple[bytes, ...], ...]  # addresses that it leads to
    known: bool = True  # False: the stores can't tell just now
    instructed: tuple[bool, ...] = ()  # an account's .qmail files have a say, see Instruct; empty: nowhere


class Admit(Message, frozen=True, tag=82):
    """May this message be taken? Asked once more before the queue accepts; answered with Verdict."""

    delivery: int
    sender: bytes
    recipients: tuple[bytes, ...]
    peer: str
    network: int
    login: int
    submission: bool
    uid: int = -1  # who hands it in on this machine, else -1
    named: bool = True  # False: the sender is left to us
    came: str = ""  # see local_messages.Came


class Verdict(Message, frozen=True, tag=83):
    """`code` 0: yes, on behalf of `account` (empty: mail from outside), and it has been counted against its grant."""

    delivery: int
    account: str = ""  # see ANYBODY
    code: int = 0  # SMTP reply code
    enhanced: str = ""
    text: str = ""
    sender: bytes = b""  # the sender that is to be used; for mail from this machine
    received: bool = False  # it came over SMTP to a program of this machine that may say so
    unsure: tuple[bytes, ...] = ()  # recipients that lead somewhere if a .qmail file rules them: see Instruct


class Owns(Message, frozen=True, tag=84):
    """Is the address one of that account's? Answered with Owned."""

    delivery: int
    account: str
    address: bytes


class Owned(Message, frozen=True, tag=85):
    delivery: int
    owned: bool


class Brake(Message, frozen=True, tag=88):
    """A person's command about the brakes on failed logins: "show" or "clear". Answered with Braked."""

    delivery: int
    verb: str
    argument: str  # an address or an account; empty: all


class Braked(Message, frozen=True, tag=89):
    delivery: int
    text: str


NetworkToDelivery = WantQueueSlot | CommitQueue | Abort
DeliveryToNetwork = SlotOpened | SlotRefused | Committed
DeliveryToBroker = ResolveAll | Admit | Owns | Deliver | Instruct | Brake
BrokerToDelivery = ResolvedAll | Verdict | Owned | DeliveryDone | Instructed | Braked
