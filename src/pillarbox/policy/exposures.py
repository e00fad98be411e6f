"""Who exposed what, folded from any number of attempts in bounded memory; who is still in the clear; what to do then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..terms import Exposure
from .networks import network_of

NETWORKS_LIMIT = 50  # that are told apart for one account, mechanism and exposure: a traveller's year
OTHER_NETWORKS = "others"
RANK = {Exposure.PASSWORD: 0, Exposure.DIGEST: 1, Exposure.NOTHING: 2}  # the worst first


@dataclass(frozen=True, slots=True)
class Way:
    """One way that an account logs in."""

    account: str  # empty: the attempts for names that are nobody's
    device: str
    protocol: str  # "pop3" or "submission"
    mechanism: str
    exposure: Exposure
    network: str  # an IPv4 /24 or an IPv6 /48


@dataclass(slots=True)
class Seen:
    """How often, and when."""

    count: int = 0
    refused: int = 0  # of those
    first: float = 0.0  # Unix times in seconds
    last: float = 0.0

    def add(self, time: float, *, refused: bool) -> None:
        self.count += 1
        self.refused += refused
        self.first = min(self.first or time, time)
        self.last = max(self.last, time)


class Exposures:
    """All ways, with what was seen of each. Memory is bounded by the accounts that there are."""

    def __init__(self) -> None:
        self._seen: dict[Way, Seen] = {}
        # By way, whatever its network: those of good attempts, and of others, so that strangers crowd out nobody.
        self._networks: dict[tuple[Way, bool], set[str]] = {}

    def of(self, way: Way, *, refused: bool) -> Seen:
        """Where such an attempt is to be added. `way.network`: the client's address."""
        return self._seen.setdefault(self._bounded(way, refused), Seen())

    def _bounded(self, way: Way, refused: bool) -> Way:
        plain = (way.account, way.device, way.protocol, way.mechanism, way.exposure)
        if not way.account:  # strangers come from everywhere
            return Way(*plain, OTHER_NETWORKS)
        networks = self._networks.setdefault((Way(*plain, ""), refused), set())
        network = network_of(way.network)
        if network not in networks and len(networks) >= NETWORKS_LIMIT:
            return Way(*plain, OTHER_NETWORKS)
        networks.add(network)
        return Way(*plain, network)

    def ranked(self) -> list[tuple[Way, Seen]]:
        """The most exposed first: by what was exposed, then by how often; strangers' attempts at the end."""
        return sorted(
            self._seen.items(),
            key=lambda pair: (not pair[0].account, RANK[pair[0].exposure], -pair[1].count, pair[0].account),
        )


@dataclass(slots=True)
class Habit:
    """When an account last logged in, and how. Unix times; 0: never."""

    clear: float = 0.0
    mechanism: str = ""  # of that
    secured: float = 0.0


@dataclass(slots=True)
class Migration:
    """Which accounts still log in without TLS. Attempts that were refused don't count: anybody can make them."""

    habits: dict[str, Habit] = field(default_factory=dict)

    def add(self, account: str, mechanism: str, exposure: Exposure, time: float) -> None:
        habit = self.habits.setdefault(account, Habit())
        if exposure is Exposure.NOTHING:
            habit.secured = max(habit.secured, time)
        elif time >= habit.clear:
            habit.clear, habit.mechanism = time, mechanism


def remedy(way: Way, host: str, ports: Mapping[str, int]) -> str:
    """What its owner should set, by what is known of the client: mechanism and port; empty: nothing.

    `host`: our name; `ports`: those that we listen on, by the name of their key in `listen`.
    """
    if way.exposure is Exposure.NOTHING or not way.account:
        return ""
    implicit, upgraded, begin = (
        ("pop3s", "pop3", "STLS") if way.protocol == "pop3" else ("submissions", "submission", "STARTTLS")
    )
    if implicit in ports:
        how = f"server {host}, port {ports[implicit]}, SSL/TLS"
    elif upgraded in ports:
        how = f"server {host}, port {ports[upgraded]}, STARTTLS ({begin}), required"
    else:
        how = f"SSL/TLS, once `listen.{implicit}` names a port"
    after = "as this one was readable" if way.exposure is Exposure.PASSWORD else "if a person chose this one"
    return f'{how}, user name {way.account}, authentication "normal password"; then a new secret, {after}'
