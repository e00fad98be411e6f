"""tcprulescheck (ucspi-tcp): what would tcpserver do, by these rules?

    tcprulescheck CDB

Environment: TCPREMOTEIP (0.0.0.0 if it is not set), TCPREMOTEHOST and TCPREMOTEINFO, as tcpserver would set them. Writes
to descriptor 1 which rule decides (`rule KEY:`, or `default:`), the variables that it sets, and what becomes of the
connection.

Exit status 0: it was told; 100: no argument; 111: CDB can't be read, or is none.

Departs from the original: a folder is reported, where the original dies of a signal; an address written as ::ffff:1.2.3.4
is looked up as 1.2.3.4, and prefixes of IPv6 addresses that end with a colon are looked up.
"""

from __future__ import annotations

import os

from ..policy.tcprules import judge
from ..store.cdb import Cdb
from . import chain
from .chain import MISUSED, TROUBLE, Environment, die, words


def main(arguments: list[bytes], environment: Environment) -> int:
    if not arguments:
        die(MISUSED, "tcprulescheck: usage: tcprulescheck rules.cdb")
    try:
        report = _report(arguments[0], environment)
    except OSError as error:
        die(TROUBLE, f"tcprulescheck: fatal: unable to read {os.fsdecode(arguments[0])}: {words(error)}")
    try:
        chain.write_all(1, report)
    except OSError:
        pass  # nobody reads it
    return 0


def _report(path: bytes, environment: Environment) -> bytes:
    address = environment.get(b"TCPREMOTEIP", b"0.0.0.0")
    host, info = environment.get(b"TCPREMOTEHOST"), environment.get(b"TCPREMOTEINFO")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    verdict = judge(Cdb(descriptor).get, address, host, info)
    lines = [b"default:" if verdict.key is None else b"rule " + verdict.key + b":"]
    lines += (b"set environment variable " + name + b"=" + value for name, value in verdict.variables)
    lines.append(b"allow connection" if verdict.allowed else b"deny connection")
    return b"\n".join(lines) + b"\n"
