"""A name server of the tests' own, on loopback, that says what it was told to, truth or not, and counts questions."""

from __future__ import annotations

import contextlib
import enum
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from .ports import HOST, free_port

TTL = 300
LENGTH = 2  # octets before a message over TCP (RFC 1035 section 4.2.2)
CHAIN = 16  # aliases followed in one answer


class Fault(enum.Enum):
    """What a name server may do in place of an answer."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    SILENT = "silent"  # no answer at all
    TRUNCATED = "truncated"  # by UDP nothing but "ask me by TCP"
    GARBAGE = "garbage"  # octets that are no DNS message
    OTHER_ID = "other id"  # an answer to another question: a forger's


@dataclass(frozen=True)
class Question:
    name: str  # lower case, without the last dot
    kind: str  # "MX"
    tcp: bool


@dataclass
class NameServer:
    """Names that nobody added do not exist (NXDOMAIN). What is added or changed holds from the next question on."""

    port: int
    host: str = HOST
    questions: list[Question] = field(default_factory=list)
    _records: dict[tuple[str, str], dns.rrset.RRset] = field(default_factory=dict)
    _faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        """As `[delivery] resolvers` wants it."""
        return f"{self.host}:{self.port}"

    def add(self, name: str, kind: str, *data: str, ttl: int = TTL) -> None:
        """Records as in a zone file: add("x.test", "MX", "10 mx.x.test."). They take the place of earlier ones."""
        made = dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *data)
        with self._lock:
            self._records[name.lower(), kind] = made

    def mx(self, name: str, *exchangers: tuple[int, str], ttl: int = TTL) -> None:
        self.add(name, "MX", *(f"{preference} {host}." for preference, host in exchangers), ttl=ttl)

    def null_mx(self, name: str, ttl: int = TTL) -> None:
        """RFC 7505: this domain takes no mail."""
        self.add(name, "MX", "0 .", ttl=ttl)

    def a(self, name: str, *addresses: str, ttl: int = TTL) -> None:
        self.add(name, "A", *addresses, ttl=ttl)

    def aaaa(self, name: str, *addresses: str, ttl: int = TTL) -> None:
        self.add(name, "AAAA", *addresses, ttl=ttl)

    def cname(self, name: str, target: str, ttl: int = TTL) -> None:
        self.add(name, "CNAME", f"{target}.", ttl=ttl)

    def exchanger(self, domain: str, *addresses: str, ttl: int = TTL) -> None:
        """The usual: one MX, mx.DOMAIN, with these IPv4 addresses."""
        self.mx(domain, (10, f"mx.{domain}"), ttl=ttl)
        self.a(f"mx.{domain}", *addresses, ttl=ttl)

    def fail(self, name: str, fault: Fault, kind: str = "ANY") -> None:
        """Questions for this name, of one kind or of all, meet the fault from now on."""
        with self._lock:
            self._faults[name.lower(), kind] = fault

    def mend(self, name: str) -> None:
        """No more faults for this name."""
        with self._lock:
            for key in [key for key in self._faults if key[0] == name.lower()]:
                del self._faults[key]

    def remove(self, name: str) -> None:
        with self._lock:
            for key in [key for key in self._records if key[0] == name.lower()]:
                del self._records[key]

    def count(self, name: str, kind: str = "") -> int:
        """How often this was asked, over UDP and TCP together; without a kind: whatever was asked of the name."""
        with self._lock:
            asked = Counter((question.name, question.kind) for question in self.questions)
        return sum(times for (one, its), times in asked.items() if one == name.lower() and kind in ("", its))

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """What is sent for a question; None: nothing."""
        query = dns.message.from_wire(wire)
        asked = query.question[0]
        name, kind = asked.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(asked.rdtype)
        with self._lock:
            self.questions.append(Question(name, kind, tcp))
            fault = self._faults.get((name, kind)) or self._faults.get((name, "ANY"))
            reply = self._reply(query, name, kind)
        return _spoilt(reply, fault, tcp=tcp)

    def _reply(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        """Follows aliases, as a resolver does. Without data: an SOA, whose last number is the TTL of a no (RFC 2308)."""
        reply = dns.message.make_response(query, recursion_available=True)
        for _ in range(CHAIN):
            alias = self._records.get((name, "CNAME"))
            if alias is None or kind == "CNAME":
                break
            reply.answer.append(alias)
            name = alias[0].target.to_text(omit_final_dot=True).lower()
        if found := self._records.get((name, kind)):
            reply.answer.append(found)
        else:
            if not self._exists(name):
                reply.set_rcode(dns.rcode.NXDOMAIN)
            reply.authority.append(dns.rrset.from_text("test.", TTL, "IN", "SOA", f"ns.test. root.test. 1 1 1 1 {TTL}"))
        return reply

    def _exists(self, name: str) -> bool:
        """It has records of some kind, or a name below it has."""
        return any(known == name or known.endswith(f".{name}") for known, _ in self._records)


def _spoilt(reply: dns.message.Message, fault: Fault | None, *, tcp: bool) -> bytes | None:
    if fault is Fault.SILENT:
        return None
    if fault is Fault.GARBAGE:
        return b"\xff" * 11
    if fault is Fault.OTHER_ID:
        reply.id ^= 0x5555
    if fault in (Fault.SERVFAIL, Fault.REFUSED) or (fault is Fault.TRUNCATED and not tcp):
        reply.answer.clear()
        reply.authority.clear()
        if fault is Fault.TRUNCATED:
            reply.flags |= dns.flags.TC
        else:
            reply.set_rcode(dns.rcode.SERVFAIL if fault is Fault.SERVFAIL else dns.rcode.REFUSED)
    return reply.to_wire()


class _Udp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, sock = self.request
        assert isinstance(self.server, _UdpServer)
        if (answer := self.server.name_server.answer(wire, tcp=False)) is not None:
            sock.sendto(answer, self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _TcpServer)
        with contextlib.suppress(ConnectionError):
            while prefix := self.rfile.read(LENGTH):
                wire = self.rfile.read(int.from_bytes(prefix, "big"))
                if (answer := self.server.name_server.answer(wire, tcp=True)) is not None:
                    self.wfile.write(len(answer).to_bytes(LENGTH, "big") + answer)


class _UdpServer(socketserver.UDPServer):
    def __init__(self, name_server: NameServer) -> None:
        self.name_server = name_server
        super().__init__((name_server.host, name_server.port), _Udp)


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection
    allow_reuse_address = True

    def __init__(self, name_server: NameServer) -> None:
        self.name_server = name_server
        super().__init__((name_server.host, name_server.port), _Tcp)


@contextlib.contextmanager
def name_server(host: str = HOST, port: int = 0) -> Iterator[NameServer]:
    """Serves UDP and TCP on one port."""
    made = NameServer(port or free_port(host), host)
    with _UdpServer(made) as udp, _TcpServer(made) as tcp:
        threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in (udp, tcp)]
        for thread in threads:
            thread.start()
        try:
            yield made
        finally:
            udp.shutdown()
            tcp.shutdown()
            for thread in threads:
                thread.join()
