"""tcpserver, ours and the original, with clients: what each client reads, and what the server logs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .sides import PATH, SECONDS

ENV = ("env",)
_OWN = f"{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"  # tests that run side by side have addresses of their own
IDENT_ADDRESS = f"127.77.{_OWN}"  # an identity server and the client that it knows
DNS_ADDRESS = f"127.78.{_OWN}"


@dataclass(frozen=True)
class Served:
    """What can be seen from outside; pids and ports are written as words."""

    status: int
    replies: tuple[bytes, ...]
    log: bytes


@dataclass(frozen=True)
class ServerCase:
    """One row of tcpserver's table of agreement."""

    title: str
    options: tuple[str | bytes, ...] = ()
    program: tuple[str, ...] = ENV
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    clients: tuple[bytes, ...] = (b"",)  # what each sends, one after the other; each reads to the end
    peer: str = "127.0.0.1"
    prepare: Callable[[Path], None] | None = None
    ident: bytes | None = None  # what the identity server answers; needs root, as do dns and root
    dns: bool = False
    root: bool = False
    mended: str = ""
    ours: Callable[[Served], bool] | None = None

    @property
    def needs_root(self) -> bool:
        return self.root or self.dns or self.ident is not None


class Running:
    """A tcpserver on a free port, with its log in a file; it is ended with `end`."""

    def __init__(self, program: Path, arguments: tuple[str | bytes, ...], folder: Path, environment: Mapping[str, str]):
        self.log_file = folder / "log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [str(program), "-1", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={b"PATH": PATH} | {os.fsencode(k): os.fsencode(v) for k, v in environment.items()},
            )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline() or 0)  # 0: it has ended

    def connect(self, peer: str = "127.0.0.1", source: str = "") -> socket.socket:
        return socket.create_connection((peer, self.port), SECONDS, (source, 0) if source else None)

    def log(self) -> bytes:
        return self.log_file.read_bytes()

    def wait_for(self, what: bytes, times: int = 1) -> None:
        deadline = time.monotonic() + SECONDS
        while self.log().count(what) < times:
            assert time.monotonic() < deadline, f"{what!r} was not logged: {self.log()!r}"
            time.sleep(0.005)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()
            if self.process.stdout:
                self.process.stdout.close()


def to_the_end(client: socket.socket) -> bytes:
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"(reset)")
    return b"".join(parts)


def run(program: Path, case: ServerCase, folder: Path) -> Served:
    """Start it, let the clients come, end it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    if case.prepare:
        case.prepare(folder)
    environment = dict(case.environment) | ({"DNSCACHEIP": DNS_ADDRESS} if case.dns else {})
    running = Running(program, (*case.options, case.host, "0", *case.program), folder, environment)
    replies, ports = [], [running.port]
    try:
        for number, octets in enumerate(case.clients if running.port else (), 1):
            with running.connect(case.peer, IDENT_ADDRESS if case.ident is not None else "") as client:
                ports.append(client.getsockname()[1])
                client.sendall(octets)
                client.shutdown(socket.SHUT_WR)
                replies.append(to_the_end(client))
            if os.fsencode(case.options[0]).startswith(b"-v"):
                running.wait_for(b"tcpserver: end ", number)
                running.wait_for(b"status: 0/", number + 1)
    finally:
        status = running.end()
    normal = [_normalised(text, ports) for text in (*replies, running.log())]
    return Served(status, tuple(normal[:-1]), normal[-1])


def _normalised(text: bytes, ports: list[int]) -> bytes:
    if b"\nTCPREMOTEIP=" in text:  # the order of an environment means nothing
        text = b"\n".join(sorted(text.splitlines()))
    text = re.sub(rb"tcpserver: (pid|ok|deny|end) \d+", rb"tcpserver: \1 PID", text)
    for port, word in zip(ports, (b"PORT", *(b"CLIENT%d" % n for n in range(len(ports)))), strict=False):
        text = re.sub(rb"\b%d\b" % port, word, text) if port else text
    return text


def check(case: ServerCase, original: Path, ours: Path, folder: Path) -> None:
    """As sides.check does."""
    with _identity_server(case.ident), _name_server(case.dns):
        theirs, mine = run(original, case, folder), run(ours, case, folder)
    if not case.mended:
        assert mine == theirs, f"{case.title}: {mine} is ours, {theirs} the original's"
        return
    assert mine != theirs, f"{case.title}: nothing was mended, both say {mine}"
    assert case.ours is not None and case.ours(mine), f"{case.title}: {mine}"


@contextmanager
def _identity_server(answer: bytes | None) -> Iterator[None]:
    """`{}` in the answer becomes the ports that were asked for."""
    if answer is None:
        yield
        return
    with socket.create_server((IDENT_ADDRESS, 113)) as server, _thread(lambda: _identify(server, answer)):
        yield
        server.shutdown(socket.SHUT_RDWR)


def _identify(server: socket.socket, answer: bytes) -> None:
    while True:
        try:
            client = server.accept()[0]
        except OSError:
            return
        with client:
            asked = client.recv(100)
            client.sendall(answer.replace(b"{}", asked.strip()))


@contextmanager
def _name_server(wanted: bool) -> Iterator[None]:
    """Knows one address, which the system's resolver knows by another name."""
    if not wanted:
        yield
        return
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind((DNS_ADDRESS, 53))
        with _thread(lambda: _answer(server)):
            yield
            with socket.socket(type=socket.SOCK_DGRAM) as last:
                last.sendto(b"", (DNS_ADDRESS, 53))


def _answer(server: socket.socket) -> None:
    while True:
        query, client = server.recvfrom(512)
        if not query:
            return
        question = query[12:]
        question = question[: question.index(b"\0") + 5]
        known = question.startswith(b"\x011\x010\x010\x03127\x07in-addr\x04arpa\0\0\x0c")
        name = b"\x06theirs\x07example\0"
        answer = b"\xc0\x0c\0\x0c\0\x01\0\0\0\x05" + len(name).to_bytes(2, "big") + name if known else b""
        flags = b"\x85\x80" if known else b"\x85\x83"  # NXDOMAIN
        counts = b"\0\x01" + (b"\0\x01" if known else b"\0\0") + b"\0\0\0\0"
        server.sendto(query[:2] + flags + counts + question + answer, client)


@contextmanager
def _thread(target: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        thread.join(SECONDS)
