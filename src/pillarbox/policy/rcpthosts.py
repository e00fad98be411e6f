"""Which recipients a classic host takes mail for (control/rcpthosts), and which senders it refuses (badmailfrom)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Lookup = Callable[[bytes], bool]


def domain_of(address: bytes) -> bytes | None:
    """What stands behind the last `@`, in lower case; None where there is none."""
    _, at, domain = address.rpartition(b"@")
    return domain.lower() if at else None


def listed(domain: bytes, holds: Lookup) -> bool:
    """The domain itself is on the list, or a parent of it, written with a dot before it. `domain` in lower case."""
    dots = (place for place, octet in enumerate(domain) if octet == ord(".") and place)
    return holds(domain) or any(holds(domain[dot:]) for dot in dots)


class Recipients:
    """Those that are let in without RELAYCLIENT."""

    def __init__(
        self,
        rcpthosts: Iterable[bytes] | None,
        *,
        more: Lookup = lambda _: False,
        percenthack: Iterable[bytes] = (),
        default_domain: bytes = b"",
        faithful: bool = False,
    ) -> None:
        """`rcpthosts`: None where there is no such file. `more`: is that domain in a second list. `percenthack`: domains
        at which `a%b` is `a@b`. `default_domain`: of a recipient that names none. `faithful`: as qmail lets them in,
        which is everybody without a list, whoever names no domain, and whatever hides behind a `%`."""
        self._first = None if rcpthosts is None else frozenset(name.lower() for name in rcpthosts)
        self._more = more
        self._percenthack = frozenset(name.lower() for name in percenthack)
        self._default = default_domain.lower()
        self._faithful = faithful

    def lets_in(self, address: bytes) -> bool:
        if self._faithful and (self._first is None or b"@" not in address):
            return True
        if address.lower() == b"postmaster":  # RFC 5321 section 4.5.1
            return True
        domain = domain_of(address)
        if domain is None:
            return bool(address) and self._lists(self._default)
        return self._lists(domain) and (self._faithful or self._lets_inner_in(address, domain))

    def _lets_inner_in(self, address: bytes, domain: bytes) -> bool:
        """Whom the percent hack makes of it."""
        local = address.rpartition(b"@")[0]
        while domain in self._percenthack and b"%" in local:
            local, _, behind = local.rpartition(b"%")
            domain = behind.lower()
            if not self._lists(domain):
                return False
        return True

    def _lists(self, domain: bytes) -> bool:
        return listed(domain, self._holds)

    def _holds(self, name: bytes) -> bool:
        return name in (self._first or ()) or self._more(name)


class RefusedSenders:
    """The whole address is listed, or `@` and its domain."""

    def __init__(self, names: Iterable[bytes]) -> None:
        self._names = frozenset(name.lower() for name in names)

    def refuses(self, sender: bytes) -> bool:
        at = sender.rfind(b"@")
        return sender.lower() in self._names or (at >= 0 and sender[at:].lower() in self._names)
