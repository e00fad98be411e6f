"""The public DNS as a person asks it once: within seconds, and never longer than that where nobody answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..policy.routing import place
from ..terms import TryLater

if TYPE_CHECKING:
    from dns.resolver import Resolver

ANSWER_SECONDS = 2.0  # that a resolver may take, before it, or another, is asked again
LOOKUP_SECONDS = 5.0  # for one question
TROUBLES_LIMIT = 3  # questions without an answer, after which no more is asked: we are offline
RECORDS_LIMIT = 100  # of one answer
DNS_PORT = 53
LOCAL = ("localhost", "localdomain")  # ends of names that the public DNS does not have


def is_local(name: str) -> bool:
    """Is it a name that no public DNS knows?"""
    return name.rpartition(".")[2] in LOCAL


class Lookups:
    """Remembers each answer, so that one question is asked once."""

    def __init__(self, resolvers: Sequence[str] = ()) -> None:
        """`resolvers`: each "address:port"; none: those of /etc/resolv.conf."""
        self._places = [place(text, DNS_PORT) for text in resolvers]
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}
        self._made: Resolver | None = None
        self._troubles = 0

    @property
    def silent(self) -> bool:
        """Has too much gone unanswered?"""
        return self._troubles >= TROUBLES_LIMIT

    def ask(self, name: str, kind: str) -> tuple[str, ...]:
        """The records' texts, names in lower case without a dot at their end; empty where there are none.

        Raises TryLater where nobody tells.
        """
        key = name.lower(), kind
        if key not in self._known:
            self._known[key] = self._answer(*key)
        return self._known[key]

    def addresses(self, name: str) -> list[str]:
        """All of a host, IPv4 first. Raises TryLater."""
        return [*self.ask(name, "A"), *self.ask(name, "AAAA")]

    def _answer(self, name: str, kind: str) -> tuple[str, ...]:
        import dns.exception
        import dns.resolver

        if self.silent:
            raise TryLater("the DNS does not answer")
        try:
            answer = self._resolver().resolve(f"{name}.", kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return ()
        except (dns.exception.DNSException, OSError, ValueError) as error:
            self._troubles += 1
            raise TryLater(f"{kind} of {name} could not be looked up ({type(error).__name__})") from None
        return tuple(_text(record) for record in list(answer.rrset or ())[:RECORDS_LIMIT])

    def _resolver(self) -> Resolver:
        """dnspython's; raises its NoResolverConfiguration where /etc/resolv.conf says nothing."""
        if self._made is None:
            from dns.nameserver import Do53Nameserver
            from dns.resolver import Resolver

            self._made = Resolver(configure=not self._places)
            if self._places:
                self._made.nameservers = [Do53Nameserver(address, port) for address, port in self._places]
            self._made.timeout, self._made.lifetime = ANSWER_SECONDS, LOOKUP_SECONDS
        return self._made


def _text(record: Any) -> str:
    if record.rdtype.name == "TXT":
        return b"".join(record.strings).decode("ascii", "replace")
    return str(record.to_text()).lower().rstrip(".")
