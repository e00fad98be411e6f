"""What our processes say to one another: each message is one frozen struct, and each link admits only its own.

A `session` is a number that the network process chose; it names one connection there. A link that gets anything
else than its own messages is closed (see channel).
"""

from __future__ import annotations

from typing import Literal

from .key_pair import KeyPair
from .message import Message as Message
from .message import WithDescriptor
from .messages_login import LoginChallenge as LoginChallenge
from .messages_login import LoginStep as LoginStep

# parent -> every process


class Configure(Message, frozen=True, tag=1):
    """The configuration, at start and again at each reload: the JSON of a config.Config."""

    config: bytes


class Listen(Message, frozen=True, tag=2):
    """The listening sockets from now on, which travel along; `protocols` names what each speaks."""

    protocols: tuple[str, ...]

    @property
    def descriptors(self) -> int:
        return len(self.protocols)


class Neighbour(WithDescriptor, frozen=True, tag=3):
    """A channel to another process; it replaces an earlier one of that room and number."""

    room: str  # "broker", "delivery" or "network"
    number: int


class Drain(Message, frozen=True, tag=4):
    """Take no new work, finish what is under way within `grace` seconds, then end."""

    grace: float


class Ready(Message, frozen=True, tag=5):
    """(process -> parent) Set up; able to serve."""


# network -> broker


class WantChallenges(Message, frozen=True, tag=10):
    count: int


class Greeted(Message, frozen=True, tag=11):
    """So many challenges more have been sent in greetings, in the order of issue; said about once a second."""

    count: int


class Login(Message, frozen=True, tag=12):
    session: int
    name: bytes
    proof: bytes
    mechanism: str  # a terms.Mechanism's value
    challenge: bytes
    secured: bool
    peer: str  # the client's address, no port
    tls: str = ""  # its version, such as TLSv1.3; empty: in the clear
    binding: bytes = b""  # what SCRAM-SHA-256-PLUS binds the login to (RFC 5929); empty: it was not offered

    def __repr__(self) -> str:
        return f"Login(session={self.session}, proof=***)"


class GiveUp(Message, frozen=True, tag=13):
    """The client has gone while its login was still waiting."""

    session: int


class Resolve(Message, frozen=True, tag=14):
    """Who gets mail for this recipient, and may this peer relay?"""

    session: int
    recipient: bytes
    peer: str
    octets: int  # as declared with SIZE, 0 if not
    sender: bytes = b""
    login: int = 0  # the session of a login that was Authenticated; 0: none
    submission: bool = False  # asked where mail is handed in


class WantSlot(Message, frozen=True, tag=15):
    """A slot in this account's own Maildir; the worker answers with SlotOpened or SlotRefused."""

    session: int
    account: str


class Authenticate(Login, frozen=True, tag=16):
    """A login that opens no maildrop: who hands in mail (RFC 4954). Answered with Authenticated or LoginRefused."""


class LoggedOut(Message, frozen=True, tag=17):
    """The connection of an Authenticated login has ended."""

    session: int


# broker -> network


class Challenges(Message, frozen=True, tag=20):
    challenges: tuple[bytes, ...]


class NewWorker(WithDescriptor, frozen=True, tag=21):
    """A channel to this worker."""

    worker: int


class LoginRefused(Message, frozen=True, tag=22):
    session: int
    code: str  # RFC 3206 or 2449 response code, or empty
    text: str
    final: bool  # True: the challenge is spent, close the connection


class Probe(Message, frozen=True, tag=23):
    """Somebody else waits for this session's maildrop: find out quickly whether its client still lives."""

    session: int


class Resolved(Message, frozen=True, tag=24):
    """What is known of a recipient, and of who sends to it: policy.relaying says what follows."""

    session: int
    account: str  # whose mailbox it is; empty: none's, or not one mailbox alone, and the queue sees to it
    local: bool  # the recipient's domain is ours
    deliverable: bool = True  # a local one leads somewhere
    standing: Literal["", "grant", "classic", "login", "unknown"] = ""  # of the peer: see policy.relaying
    owned: bool = False  # the sender's address is one of that account's
    left: bool = True  # so much may still be sent
    code: str = ""  # when the mailbox can't take it: an RFC 3463 code (4.2.2 over quota, ...), else empty
    text: str = ""
    why: str = ""  # for the log: what the peer's standing lacks


class Authenticated(Message, frozen=True, tag=25):
    session: int
    account: str


class Rules(Message, frozen=True, tag=26):
    """Who may connect, from now on: the records of a file of tcprules (policy.tcprules), the first of a key counts."""

    protocol: str  # "smtp" or "pop3"
    records: tuple[tuple[bytes, bytes], ...]


class Certificates(Message, frozen=True, tag=27):
    """What TLS is spoken with from now on; the first pair serves whoever asks for no name. Empty: there is none."""

    pairs: tuple[KeyPair, ...]


# broker -> worker


class Attach(WithDescriptor, frozen=True, tag=30):
    """A channel to this network process."""

    network: int


class OpenMaildrop(Message, frozen=True, tag=31):
    """A judged login: answer the network process with Opened or LoginRefused."""

    network: int
    session: int
    account: str
    maildir: str


class OpenSlot(Message, frozen=True, tag=32):
    network: int
    session: int
    account: str
    maildir: str


class Deliver(WithDescriptor, frozen=True, tag=33):
    """(delivery -> broker -> worker) Put the message behind the descriptor into the Maildir; durable when answered.

    From delivery to the broker `maildir` is empty, or relative to a system user's home: the broker fills it in.
    """

    delivery: int  # names this request
    account: str
    maildir: str
    name: str  # deterministic unique name, so that a repeated delivery is the same delivery
    head: bytes  # header lines to put before the message: Return-Path, Delivered-To
    must_exist: bool = False  # a Maildir that a .qmail file names is not made: it may be a slip of the pen


class Usage(Message, frozen=True, tag=34):
    """Has this Maildir room for so many octets? The worker answers the network process with `answer`, its code and text
    filled in where there is none."""

    network: int
    maildir: str
    octets: int
    answer: Resolved


class Ruled(Message, frozen=True, tag=36):
    """Does a .qmail file of that home rule names with this extension? The worker answers the network process with
    `answer`, as not deliverable where none does."""

    network: int
    home: str
    extension: str
    answer: Resolved


class Instruct(Message, frozen=True, tag=37):
    """(delivery -> broker -> worker) What do the .qmail files say about this recipient? Answered with Instructed.

    From delivery to the broker `home` and `extension` are empty: the broker fills them in.
    """

    delivery: int
    recipient: bytes
    account: str = ""
    home: str = ""
    extension: str = ""
    at_door: bool = False  # asked before the message is taken, so whoever sends it may be a stranger


class AreYouIdle(Message, frozen=True, tag=35):
    """A system user's worker answers Idle if it has no session, no slot and no work."""


# worker -> broker


class Idle(Message, frozen=True, tag=42):
    """Nothing is under way here."""


class Ended(Message, frozen=True, tag=40):
    """The maildrop of this session is free again."""

    network: int
    session: int


class DeliveryDone(Message, frozen=True, tag=41):
    """(worker -> broker -> delivery)"""

    delivery: int
    outcome: str  # "delivered", "deferred" or "failed"
    text: str


NOBODY_LOOKS = "4.3.2"  # Instructed.code of the broker's own: no worker has read the files


class Instructed(Message, frozen=True, tag=43):
    """(worker -> broker -> delivery) Where the owner's .qmail files lead a recipient; nowhere at all is possible too.

    `code`, of RFC 3463, is empty, or says why that can't be told (4) or that no file rules the name (5).
    """

    delivery: int
    account: str = ""  # whose
    maildirs: tuple[str, ...] = ()  # below the home folder; empty text: the account's own
    forwards: tuple[bytes, ...] = ()
    code: str = ""
    text: str = ""  # for the log


# worker -> network


class Opened(Message, frozen=True, tag=50):
    """The login succeeded. `listing` is the blob of a listing.Listing, or empty: then it lies in a sealed memory file,
    whose descriptor travels along."""

    session: int
    user: str
    listing: bytes

    @property
    def descriptors(self) -> int:
        return 0 if self.listing else 1


class Messages(Message, frozen=True, tag=51):
    """The messages asked for, each with its descriptor, in the order asked; `missing` could not be opened."""

    session: int
    numbers: tuple[int, ...]
    missing: tuple[int, ...] = ()

    @property
    def descriptors(self) -> int:
        return len(self.numbers)


class Updated(Message, frozen=True, tag=52):
    """The answer to Update: how many messages could not be removed; 0 means that the removal is durable."""

    session: int
    failed: int


class SlotOpened(WithDescriptor, frozen=True, tag=53):
    """(worker or delivery -> network) Write the message into the descriptor, then Commit or Abort."""

    session: int


class SlotRefused(Message, frozen=True, tag=54):
    session: int
    code: str  # RFC 3463
    text: str
    reply: int = 0  # SMTP reply code, where it is no passing trouble of ours


class Committed(Message, frozen=True, tag=55):
    """(worker or delivery -> network) The message is durable; `name` is its file or queue id."""

    session: int
    name: str


# network -> worker


class OpenMessages(Message, frozen=True, tag=60):
    session: int
    numbers: tuple[int, ...]


class Update(Message, frozen=True, tag=61):
    """Remove these, fsync, answer Updated; the maildrop is free then."""

    session: int
    numbers: tuple[int, ...]


class Close(Message, frozen=True, tag=62):
    """The session is over and removes nothing."""

    session: int


class Commit(Message, frozen=True, tag=63):
    session: int


class Abort(Message, frozen=True, tag=64):
    """(network -> worker or delivery) Forget the slot."""

    session: int


FromParent = Configure | Listen | Neighbour | Drain
ToParent = Ready
NetworkToBroker = WantChallenges | Greeted | Login | Authenticate | LoginStep | LoggedOut | GiveUp | Resolve | WantSlot
BrokerToNetwork = (
    Certificates
    | Challenges
    | NewWorker
    | LoginRefused
    | LoginChallenge
    | Authenticated
    | Probe
    | Resolved
    | SlotRefused
    | Rules
)
BrokerToWorker = AreYouIdle | Attach | OpenMaildrop | OpenSlot | Deliver | Instruct | Ruled | Usage | Configure
WorkerToBroker = Idle | Ended | DeliveryDone | Instructed
WorkerToNetwork = Opened | LoginRefused | Messages | Updated | SlotOpened | SlotRefused | Committed | Resolved
NetworkToWorker = OpenMessages | Update | Close | Commit | Abort
