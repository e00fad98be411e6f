"""Mail for other hosts: finds the exchangers, converses with the first that answers, and says what became of it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address

from .. import log
from ..config import Config, parse_listen
from ..policy.routing import Route, Routes
from ..protocol.address import BadAddress, forward_path, reverse_path
from ..terms import Outcome, Refused, TryLater
from .conversation import Conversation, Patience
from .dialling import Demands, Dialler, Login, Unreachable
from .exchangers import Exchangers, Target
from .lanes import Dead, Kept, Places
from .letter import Letter, Memory, Signs
from .letter import Outgoing as Outgoing
from .transaction import OVERFLOW, Outcomes, Stale, Transaction

STOPPING = Outcome("delayed", "4.3.2", "the server is stopping", tried=False)
LANES_REMEMBERED = 10_000  # domains whose route is worked out once
RECIPIENTS_LIMIT = 100  # in one transaction: what every exchanger must take (RFC 5321 section 4.5.3.1.8)
OPEN_LIMIT = 3  # messages open, for each connection that may be: others wait for a host's place, or for the DNS
SECRET_LIMIT = 4096  # octets of the file that holds the smarthost's password
MISCONFIGURED = "4.3.5"
EVENTS = {"relayed": "relayed", "delayed": "relay-delayed", "failed": "relay-failed"}

IsUs = Callable[[str, str, int], bool]


class Remote:
    """The remote hop. One for a process; any number of deliveries at once."""

    def __init__(self, config: Config, signer: Signs | None = None, *, patience: Patience | None = None) -> None:
        self._patience = patience
        self._signer = signer
        self._memory = Memory()
        self._dead = Dead()
        self._way = Way(config, self._dead, patience)
        self._lanes: dict[bytes, Hashable] = {}  # by domain
        self._draining = False

    def reconfigure(self, config: Config) -> None:
        """For what is delivered from now on. Never raises: what is wrong with a file delays the mail that needs it."""
        old, self._way = self._way, Way(config, self._dead, self._patience)
        self._lanes.clear()
        old.kept.drop()

    def forget_trouble(self) -> None:
        """Exchangers that did not answer are asked again at once, and so is the DNS."""
        self._dead.forget()
        self._way.forget_trouble()

    def drain(self) -> None:
        """Begin no further transaction; those under way go on."""
        self._draining = self._way.stopping = True

    async def close(self) -> None:
        """End the connections that are kept, once nothing is under way."""
        await self._way.kept.close()

    def lane(self, recipient: bytes) -> Hashable:
        """Recipients with equal lanes may travel in one transaction."""
        domain = recipient.rpartition(b"@")[2]
        if domain not in self._lanes:
            if len(self._lanes) >= LANES_REMEMBERED:
                self._lanes.clear()
            self._lanes[domain] = self._lane_of(recipient)
        return self._lanes[domain]

    def _lane_of(self, recipient: bytes) -> Hashable:
        try:
            return self._way.routes.of(recipient)
        except Refused as error:
            return error.code

    async def deliver(self, outgoing: Outgoing) -> Outcomes:
        """Try once, for recipients of one lane: what became of each.

        Raises nothing for what the net or another host does, nor for a file that can't be read.
        """
        outcomes = _unspeakable(outgoing)
        recipients = [recipient for recipient in outgoing.recipients if recipient not in outcomes]
        try:
            if recipients:
                await self._carry(self._way, outgoing, recipients, outcomes)
        except Refused as error:
            outcomes |= dict.fromkeys(recipients, Outcome("failed", error.code, error.why))
        except OSError as error:
            unread = Outcome("delayed", "4.3.0", f"the message can't be read just now: {error.strerror}")
            outcomes |= {recipient: unread for recipient in recipients if recipient not in outcomes}
        _log(outgoing, {recipient: outcome for recipient, outcome in outcomes.items() if not outcome.mta}, "")
        return outcomes

    async def _carry(self, way: Way, outgoing: Outgoing, recipients: list[bytes], outcomes: Outcomes) -> None:
        """Adds the outcomes. Raises Refused where no way leads to the recipients, and OSError for the message's file."""
        route = way.routes.of(recipients[0])
        async with way.places.of(route):
            if self._draining:
                outcomes |= dict.fromkeys(recipients, STOPPING)
                return
            letter = Letter(outgoing, self._signer, self._memory)
            try:
                await _in_batches(way, route, letter, recipients, outcomes)
            finally:
                letter.close()


class Way:
    """How mail travels under one configuration."""

    def __init__(self, config: Config, dead: Dead, patience: Patience | None) -> None:
        delivery = config.delivery
        self.routes = Routes(
            delivery.routes,
            port=delivery.port,
            smarthost=delivery.smarthost,
            smarthost_secured=delivery.smarthost_tls == "require",
            secured=delivery.tls_required,
        )
        self.places = Places(OPEN_LIMIT * delivery.connections, delivery.connections_per_destination)  # by route
        # Of connections, by endpoint: one server under many names is one, and who waits for it takes no connection.
        self.hosts = Places(delivery.connections, delivery.connections_per_destination)
        self.kept = Kept(delivery.connections, delivery.connections_per_destination)
        self.stopping = False
        self._dead = dead
        self._exchangers = Exchangers(delivery.resolvers, ipv6=delivery.ipv6, is_us=_is_us(config))
        self._trouble: dict[str, str] = {}  # what can't be used, and why
        self._login = self._read_login(delivery.smarthost_user, delivery.smarthost_secret_file)
        self._dialler = self._make_dialler(config.hostname, delivery.ca_file, patience)

    def forget_trouble(self) -> None:
        self._exchangers.forget_trouble()

    async def transact(self, route: Route, letter: Letter, recipients: Sequence[bytes]) -> Outcomes:
        """One transaction, over a connection that was kept if there is one. Raises OSError for the message's file."""
        try:
            return await self._over_kept(route, letter, recipients)
        except Stale:
            pass
        try:
            async with self._reached(route) as conversation:
                return await self._run(route, conversation, letter, recipients)
        except Unreachable as error:
            outcomes = dict.fromkeys(recipients, error.outcome)
            if error.outcome.mta:
                _log(letter.outgoing, outcomes, "")
            return outcomes

    async def _over_kept(self, route: Route, letter: Letter, recipients: Sequence[bytes]) -> Outcomes:
        """Raises Stale where none was kept, too."""
        conversation = self.kept.take(route)
        if conversation is None:
            raise Stale
        async with self.hosts.of(conversation.target.endpoint):
            if self.stopping:
                self.kept.keep(route, conversation)
                raise Stale
            return await self._run(route, conversation, letter, recipients)

    async def _run(
        self, route: Route, conversation: Conversation, letter: Letter, recipients: Sequence[bytes]
    ) -> Outcomes:
        try:
            outcomes = await Transaction(conversation, letter).run(recipients)
        finally:
            letter.rest()  # whoever comes here needs the memory: nobody may hold it and wait for a place
            self.kept.keep(route, conversation)
        if conversation.silent:
            self._dead.mark(conversation.target, f"{conversation.target.address} did not answer in time")
        _log(letter.outgoing, outcomes, conversation.tls or "none")
        return outcomes

    @asynccontextmanager
    async def _reached(self, route: Route) -> AsyncIterator[Conversation]:
        """The first exchanger that answers, and a place among the connections to it. Raises Unreachable."""
        try:
            targets = await self._exchangers.targets(route)
            login = self._demanded(route)
        except Refused as error:
            raise Unreachable(Outcome("failed", error.code, error.why)) from None
        except TryLater as error:
            raise Unreachable(Outcome("delayed", error.code, error.why)) from None
        reasons = []
        for target in targets:
            if trouble := self._in_vain(target) or self._too_many(target):
                reasons.append(trouble)
                continue
            async with self.hosts.of(target.endpoint):
                try:
                    conversation = await self._dial(target, route, login)
                except Unreachable as error:
                    if error.outcome.action == "failed":
                        raise
                    reasons.append(error.outcome)
                    continue
                yield conversation
                return
        raise Unreachable(reasons[-1])

    async def _dial(self, target: Target, route: Route, login: Login | None) -> Conversation:
        """Raises Unreachable."""
        if trouble := self._in_vain(target):  # that may have come out while we waited for a place
            raise Unreachable(trouble)
        self.kept.make_room(self.hosts.taken)
        loops = route.exchangers or not ip_address(target.address).is_loopback  # a filter here may have our name
        try:
            conversation = await self._dialler.dial(target, Demands(route.secured, login, loops))
        except Unreachable as error:
            if error.dead:
                self._dead.mark(target, error.outcome.text)
            raise
        self._dead.alive(target)
        return conversation

    def _in_vain(self, target: Target) -> Outcome | None:
        """Why it is not to be dialled now, if so."""
        if self.stopping:
            return STOPPING
        why = self._dead.why(target)
        return Outcome("delayed", "4.4.1", f"{why} (a little while ago)", target.host) if why else None

    def _too_many(self, target: Target) -> Outcome | None:
        if not self.hosts.swamped(target.endpoint):
            return None
        return Outcome("delayed", "4.4.5", "too many messages wait for it already", target.host, tried=False)

    def _demanded(self, route: Route) -> Login | None:
        """Raises TryLater where the configuration keeps us from what this route needs."""
        needed = ("ca_file",) * route.secured + ("smarthost_secret_file",) * route.smarthost
        for key in needed:
            if why := self._trouble.get(key):
                raise TryLater(why, MISCONFIGURED)
        return self._login if route.smarthost else None

    # Files of the configuration.

    def _read_login(self, user: str, path: str) -> Login | None:
        if not user:
            return None
        try:
            with open(path, "rb") as file:
                secret = file.read(SECRET_LIMIT).decode("utf-8").rstrip("\r\n")
            if secret:
                return Login(user, secret)
            self._note("smarthost_secret_file", "it is empty")
        except UnicodeDecodeError:
            self._note("smarthost_secret_file", "it is not UTF-8")
        except OSError as error:
            self._note("smarthost_secret_file", error.strerror or "it can't be read")
        return None

    def _make_dialler(self, hostname: str, ca_file: str, patience: Patience | None) -> Dialler:
        try:
            return Dialler(hostname, ca_file=ca_file, patience=patience)
        except (OSError, ssl.SSLError) as error:
            self._note("ca_file", error.strerror or "it holds no certificates")
            return Dialler(hostname, patience=patience)

    def _note(self, key: str, why: str) -> None:
        self._trouble[key] = f"delivery.{key} can't be used: {why}"
        log.line("delivery-trouble", key=f"delivery.{key}", why=why, what="mail that needs it waits")


async def _in_batches(way: Way, route: Route, letter: Letter, recipients: list[bytes], outcomes: Outcomes) -> None:
    """Several transactions, if the recipients are too many for one, by our limit or the exchanger's."""
    while recipients:
        batch, recipients = recipients[:RECIPIENTS_LIMIT], recipients[RECIPIENTS_LIMIT:]
        found = await way.transact(route, letter, batch)
        outcomes |= found
        if any(outcome.action == "relayed" for outcome in found.values()):
            recipients = [one for one in batch if found[one].status == OVERFLOW] + recipients


def _unspeakable(outgoing: Outgoing) -> Outcomes:
    """Recipients that no SMTP command could name, or all of them for such a sender."""
    if not _is_path(reverse_path, outgoing.sender):
        return dict.fromkeys(outgoing.recipients, Outcome("failed", "5.1.7", "the sender's address is malformed"))
    failed = Outcome("failed", "5.1.3", "the address is malformed")
    return {recipient: failed for recipient in outgoing.recipients if not _is_path(forward_path, recipient)}


def _is_path(parse: Callable[[bytes], tuple[bytes, bytes]], address: bytes) -> bool:
    """Nothing but an address: a command made of it says what it should."""
    try:
        return parse(b"<" + address + b">")[1] == b""
    except BadAddress:
        return False


def _is_us(config: Config) -> IsUs:
    """Does a host of that name, address (empty: unknown) and port lead to this server? By name, or by where it listens."""
    hostname = config.hostname.lower()
    ports = {parse_listen(text)[1] for text in config.listen.smtp}

    def is_us(host: str, address: str, port: int) -> bool:
        return host == hostname or (bool(address) and port in ports and _is_of_this_machine(address))

    return is_us


def _is_of_this_machine(address: str) -> bool:
    """Only its own addresses can be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _log(outgoing: Outgoing, outcomes: Outcomes, tls: str) -> None:
    """A line for all that share a fate."""
    fates: defaultdict[Outcome, list[bytes]] = defaultdict(list)
    for recipient, outcome in outcomes.items():
        fates[outcome].append(recipient)
    for outcome, recipients in fates.items():
        log.line(
            EVENTS[outcome.action],
            id=outgoing.identity,
            to=b",".join(recipients).decode("utf-8", "replace"),
            status=outcome.status,
            mta=outcome.mta or None,
            tls=tls or None,
            reply=outcome.reply or None,
            why=(outcome.text or None) if outcome.action != "relayed" else None,
        )
