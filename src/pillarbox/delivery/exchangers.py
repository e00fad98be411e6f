"""Who takes mail for a domain, and at which addresses: asked of the DNS, and remembered as long as it allows."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..policy.routing import Exchanger, Route, before_us, in_order, is_address, place, usable
from ..terms import Refused, TryLater

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
    from dns.resolver import Answer

ANSWER_SECONDS = 5.0  # that a resolver may take, before another is asked or it is asked again
LOOKUP_SECONDS = 20.0  # for one question, with all repetitions
LONGEST = 86400.0  # seconds that an answer is remembered, whatever its TTL
LONGEST_NO = 3600.0  # seconds that "there is none" is remembered; RFC 2308 section 5 recommends at most three hours
TROUBLE_SECONDS = 30.0  # that a failed lookup is remembered: a thousand messages must not wait for it one by one
CACHED = 5_000  # answers; a few hundred octets each, and 10 KB if they are meant to fill our memory
RECORDS_LIMIT = 20  # of one answer, the most preferred; a hostile zone may list thousands
EXCHANGERS_LIMIT = 10  # whose addresses are looked up
ADDRESSES_LIMIT = 8  # of one exchanger, and of one kind
TARGETS_LIMIT = 20  # addresses tried for one message
DNS_PORT = 53
LOOPBACK = {"A": ("127.0.0.1",), "AAAA": ("::1",)}  # of localhost (RFC 6761 section 6.3)
NO_DOMAIN = Refused("the domain does not exist", "5.1.2")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection goes."""

    host: str  # the name that its certificate must show
    address: str
    port: int

    @property
    def endpoint(self) -> tuple[str, int]:
        """What is one and the same server, whatever names lead to it."""
        return self.address, self.port


@dataclass(frozen=True, slots=True)
class Found:
    """The records' texts, or why there are none, and until when (monotonic seconds) that holds."""

    until: float
    records: tuple[tuple[int, str], ...] = ()
    trouble: Refused | TryLater | None = None


class Exchangers:
    """Finds targets. One question is asked once, however many messages wait for the answer."""

    def __init__(
        self,
        resolvers: Sequence[str] = (),
        *,
        ipv6: bool = True,
        is_us: Callable[[str, str, int], bool] = lambda host, address, port: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`resolvers`: each "address:port"; none: those of /etc/resolv.conf. `is_us(host, address, port)`; an exchanger
        without addresses is asked about with an empty one."""
        self._places = [place(text, DNS_PORT) for text in resolvers]
        self._kinds = ("A", "AAAA") if ipv6 else ("A",)  # of mail hosts' two ways, the newer one is broken more often
        self._is_us = is_us
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], Found] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Future[Found]] = {}
        self._made: Resolver | None = None

    async def targets(self, route: Route) -> list[Target]:
        """Where to connect, the best first; never empty. Raises Refused and TryLater."""
        exchangers = [Exchanger(0, route.host)]
        if route.exchangers:
            exchangers = in_order(usable(route.host, await self._exchangers(route.host)), random.random)
        found = await self._resolved(exchangers[:EXCHANGERS_LIMIT])
        addressed = before_us(found, lambda exchanger: self._reaches_us(exchanger, route.port))
        targets = [
            Target(exchanger.host, address, route.port) for exchanger in addressed for address in exchanger.addresses
        ]
        if not targets:
            raise Refused("no mail exchanger of the domain has an address", "5.4.4")
        return targets[:TARGETS_LIMIT]

    def forget_trouble(self) -> None:
        """What the DNS did not tell is asked again at once."""
        for key in [key for key, found in self._known.items() if isinstance(found.trouble, TryLater)]:
            del self._known[key]

    def _reaches_us(self, exchanger: Exchanger, port: int) -> bool:
        return any(self._is_us(exchanger.host, address, port) for address in exchanger.addresses or ("",))

    async def _exchangers(self, domain: str) -> list[Exchanger]:
        return [Exchanger(preference, host) for preference, host in await self._look_up(domain, "MX")]

    async def _resolved(self, exchangers: Sequence[Exchanger]) -> list[Exchanger]:
        """The exchangers with their addresses. Raises TryLater if none has any, and that may change."""
        answers = await asyncio.gather(
            *(self._addresses(exchanger.host) for exchanger in exchangers), return_exceptions=True
        )
        found, troubles = [], []
        for exchanger, answer in zip(exchangers, answers, strict=True):
            if isinstance(answer, BaseException):
                troubles.append(answer)
            found.append(exchanger if isinstance(answer, BaseException) else replace(exchanger, addresses=answer))
        if not any(exchanger.addresses for exchanger in found):
            for trouble in troubles:
                if not isinstance(trouble, Refused):
                    raise trouble
        return found

    async def _addresses(self, host: str) -> tuple[str, ...]:
        """Raises TryLater where it can't be told; a host that does not exist has none."""
        if is_address(host):
            return (host,)
        found: list[str] = []
        trouble: TryLater | None = None
        for answer in await asyncio.gather(
            *(self._look_up(host, kind) for kind in self._kinds), return_exceptions=True
        ):
            if isinstance(answer, TryLater):
                trouble = answer
            elif isinstance(answer, BaseException) and not isinstance(answer, Refused):
                raise answer
            elif not isinstance(answer, BaseException):
                found += [address for _, address in answer[:ADDRESSES_LIMIT]]
        if trouble is not None and not found:
            raise trouble
        return tuple(found)

    # Questions.

    async def _look_up(self, name: str, kind: str) -> tuple[tuple[int, str], ...]:
        """Records: of MX with their preference, else with 0. None: empty. Raises Refused (no such name) and TryLater."""
        if name == "localhost" and kind in LOOPBACK:
            return tuple((0, address) for address in LOOPBACK[kind])
        key = name, kind
        found = self._known.get(key)
        if found is None or found.until <= self._clock():
            found = await self._ask_once(key)
        else:
            self._known.move_to_end(key)
        if found.trouble is not None:
            raise type(found.trouble)(found.trouble.why, found.trouble.code)
        return found.records

    async def _ask_once(self, key: tuple[str, str]) -> Found:
        """One question for all who want to know it now. Who waits may be cancelled; the question goes on."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._ask(*key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _ask(self, name: str, kind: str) -> Found:
        found = await self._answer(name, kind)
        self._known[name, kind] = found
        self._known.move_to_end((name, kind))
        if len(self._known) > CACHED:
            self._known.popitem(last=False)
        return found

    async def _answer(self, name: str, kind: str) -> Found:
        import dns.exception
        import dns.resolver

        try:
            answer = await self._resolver().resolve(name + ".", kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return Found(self._clock() + _negative_seconds(_only(error)), trouble=NO_DOMAIN)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            why = f"the DNS does not tell where {name} is ({type(error).__name__})"
            return Found(self._clock() + TROUBLE_SECONDS, trouble=TryLater(why, "4.4.3"))
        return self._found(answer)

    def _found(self, answer: Answer) -> Found:
        if answer.rrset is None:
            return Found(self._clock() + _negative_seconds(answer.response))
        seconds = min(max(answer.chaining_result.minimum_ttl, 0), LONGEST)
        return Found(self._clock() + seconds, tuple(_records(answer.rrset)[:RECORDS_LIMIT]))

    def _resolver(self) -> Resolver:
        """dnspython's; its import costs 200 ms, and a host that only receives mail never needs it."""
        if self._made is None:
            from dns.asyncresolver import Resolver
            from dns.nameserver import Do53Nameserver

            self._made = Resolver(configure=not self._places)
            if self._places:
                self._made.nameservers = [Do53Nameserver(address, port) for address, port in self._places]
            self._made.timeout, self._made.lifetime = ANSWER_SECONDS, LOOKUP_SECONDS
        return self._made


def _records(rrset: Iterable[Any]) -> list[tuple[int, str]]:
    """Preference and host of MX, the best first; 0 and the address of A and AAAA, as they came."""
    found = [_record(record) for record in rrset]
    return sorted(found, key=lambda record: record[0])


def _record(record: Any) -> tuple[int, str]:
    if record.rdtype.name == "MX":
        return record.preference, record.exchange.to_text(omit_final_dot=True).lower().removesuffix(".")
    return 0, record.address


def _only(error: Any) -> Any:
    """The message behind a NXDOMAIN; None: it is not there."""
    return next(iter(error.responses().values()), None)


def _negative_seconds(response: Any) -> float:
    """How long "there is none" holds: as the SOA says (RFC 2308 section 5); dnspython has a short time where none does."""
    import dns.exception

    try:
        return float(min(max(response.resolve_chaining().minimum_ttl, 0), LONGEST_NO)) if response else 0.0
    except dns.exception.DNSException:
        return 0.0
