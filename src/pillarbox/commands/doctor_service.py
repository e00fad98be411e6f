"""The server at work: does it answer where it listens, does mail get stuck, does anybody read its log?"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from ..config import Config, parse_listen
from ..home import Home
from ..store.queue_summary import Summary, summaries
from .findings import Finding, advice, fine, serious
from .queue_view import plain, span

ANSWER_SECONDS = 5.0  # for a connection on this machine, and for the first octets of a greeting
GREETED = {"pop3": b"+OK", "pop3s": b"+OK", "smtp": b"220", "submission": b"220", "submissions": b"220"}
SECURED = ("pop3s", "submissions")  # TLS from the first octet
GOODBYE_LIMIT = 4096  # octets that are read after QUIT; a greeting and a goodbye have some hundred
OLD_SECONDS = 86400.0  # that a message waits before we ask why; most that is late arrives within hours
SYSLOG = "/dev/log"


def check_ports(place: Home, settings: Config) -> Iterator[Finding]:
    pid, state = place.running(), place.read_status()
    if state is None or pid is None or state.get("pid") != pid:
        yield advice("ports", "no server runs on this home", "no mail comes in", "pillarbox serve")
        return
    listen = state.get("listen")
    for protocol, addresses in listen.items() if isinstance(listen, dict) else ():
        for address in addresses:
            if protocol in GREETED:
                yield port(protocol, address, _trouble(protocol, address))


def port(protocol: str, address: str, trouble: str) -> Finding:
    if trouble:
        what = f"{protocol} at {address} does not answer this machine: {trouble}"
        return serious(
            "ports", what, "clients get no answer either", "see the log, and whether a firewall is in the way"
        )
    return fine("ports", f"{protocol} answers at {address}")


def _trouble(protocol: str, address: str) -> str:
    """What keeps us from being greeted there; empty: nothing."""
    host, number = parse_listen(address)
    if ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    try:
        with socket.create_connection((host, number), ANSWER_SECONDS) as connection:
            if protocol not in SECURED:
                said = _greeting(connection)
            else:
                with _any_certificate().wrap_socket(connection) as secured:
                    said = _greeting(secured)
    except OSError as error:
        return error.strerror or str(error)
    return "" if said.startswith(GREETED[protocol]) else "it does not greet as it should"


def _greeting(connection: socket.socket) -> bytes:
    """All that is said until the end, after a QUIT: whoever only hangs up is a line of trouble in the log."""
    said = connection.recv(GOODBYE_LIMIT)
    connection.sendall(b"QUIT\r\n")
    while len(said) < GOODBYE_LIMIT and (more := connection.recv(GOODBYE_LIMIT)):
        said += more
    return said


def _any_certificate() -> ssl.SSLContext:
    """Nothing is told to the other side: whether the certificate is right is looked at elsewhere."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def check_queue(place: Home, settings: Config) -> Iterator[Finding]:
    """Raises TryLater."""
    if not os.path.exists(f"{place.queue}/envelope"):
        yield fine("queue", "nothing has ever waited")
        return
    aside = f"{place.queue}/damaged"
    yield from waiting(list(summaries(place.queue)), time.time())
    if names := os.listdir(aside):
        what = f"{len(names)} files were damaged, and lie in {aside}"
        why = "mail that was accepted was not delivered"
        yield serious("queue", what, why, "read them, send them on by hand, and move them away; check the disk")


def waiting(found: Sequence[Summary], now: float) -> Iterator[Finding]:
    """`found`: what is queued; `now`: Unix time."""
    for one in found:
        if one.message is None:
            what = f"message {one.identity} can't be read: {plain(one.damage)}"
            yield serious(
                "queue", what, "it is not delivered", f"check the disk, then pillarbox queue show {one.identity}"
            )
    messages = [one.message for one in found if one.message is not None]
    oldest = min((message.received for message in messages), default=now)
    words = f"{len(messages)} messages wait"
    if now - oldest > OLD_SECONDS:
        what = f"{words}, the oldest for {span(now - oldest)}"
        yield advice("queue", what, "its sender hears of it only when it bounces", "pillarbox queue list says why")
    else:
        yield fine("queue", words)


def check_log(place: Home, settings: Config) -> Iterator[Finding]:
    yield log(settings.log.to, syslog=os.path.exists(SYSLOG), standard_error=_standard_error(place.running()))


def log(to: str, *, syslog: bool, standard_error: str) -> Finding:
    """`standard_error`: what the server writes to; empty: none runs, or that can't be seen."""
    why = "nobody will know who logged in, who failed to, or why mail is late"
    if to == "syslog" and not syslog:
        return serious(
            "log", f"`log.to` is syslog, and there is no {SYSLOG}", why, 'run a syslog, or `log.to = "stderr"`'
        )
    if to == "stderr" and standard_error == os.devnull:
        return serious(
            "log", f"the server's log goes to {os.devnull}", why, 'start it with another stderr, or `log.to = "syslog"`'
        )
    return fine("log", "it goes to syslog" if to == "syslog" else f"it goes to {standard_error or 'stderr'}")


def _standard_error(pid: int | None) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/2") if pid else ""
    except OSError:
        return ""
