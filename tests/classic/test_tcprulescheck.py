"""tcprulescheck beside ucspi-tcp's own."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store import cdb

from .conftest import ORIGINALS
from .sides import Case, Result, check

RULES = b"""\
joe@1.2.3.4:allow,R="name and address"
@1.2.3.4:allow,R="an empty name"
joe@=h.example.com:allow,R="name and host"
1.2.3.4:allow,R="address"
=h.example.com:allow,R="host"
1.2.:allow,R="prefix",S="second"
1.:deny,X="y"
=.example.com:deny
=.com:allow,R="com"
=:allow,R="any host"
:allow,RELAYCLIENT=""
"""
STRICT = b"10.:allow\n:deny\n"
NONE = b"10.:allow\n"
SIX = b'::1:allow,R="loopback"\nfe80::allow,R="link"\n192.0.2.1:allow,R="four"\n:deny\n'


def rules(content: bytes) -> Callable[[Path], None]:
    """Compiled by the original where it can."""

    def prepare(folder: Path) -> None:
        program = [str(ORIGINALS / "tcprules"), "rules.cdb", "rules.tmp"]
        subprocess.run(program, input=content, cwd=folder, check=True)

    return prepare


def octets(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "rules.cdb").write_bytes(content) and None


def records(*pairs: tuple[bytes, bytes]) -> Callable[[Path], None]:
    return octets(cdb.content(pairs))


def six() -> Callable[[Path], None]:
    keys = ((b"::1", b"+R=loopback\0"), (b"fe80:", b"+R=link\0"), (b"192.0.2.1", b"+R=four\0"), (b"", b"D\0"))
    return records(*keys)


def looked_up(title: str, content: bytes = RULES, **environment: str) -> Case:
    return Case(title, ("rules.cdb",), environment, prepare=rules(content))


def says(*lines: bytes) -> Callable[[Result], bool]:
    return lambda result: (result.status, result.out) == (0, b"\n".join(lines) + b"\n")


COLON = "An IPv6 address is looked up by its prefixes that end with a colon; the original is built for IPv4"
MAPPED = "An IPv4 address written as IPv6 is that IPv4 address, so that one rule serves both"

CASES = (
    Case("no argument"),
    Case("no such file", ("none.cdb",)),
    looked_up("no environment: the address is 0.0.0.0"),
    looked_up("the whole address", TCPREMOTEIP="1.2.3.4"),
    looked_up("name and address", TCPREMOTEIP="1.2.3.4", TCPREMOTEINFO="joe"),
    looked_up("an empty name", TCPREMOTEIP="1.2.3.4", TCPREMOTEINFO=""),
    looked_up("an unknown name", TCPREMOTEIP="1.2.3.4", TCPREMOTEINFO="jim"),
    looked_up("name and host", TCPREMOTEIP="9.9.9.9", TCPREMOTEINFO="joe", TCPREMOTEHOST="h.example.com"),
    looked_up("the address before the host", TCPREMOTEIP="1.2.3.4", TCPREMOTEHOST="h.example.com"),
    looked_up("the host before a prefix", TCPREMOTEIP="1.2.3.5", TCPREMOTEHOST="h.example.com"),
    looked_up("a prefix before a suffix", TCPREMOTEIP="1.2.3.5", TCPREMOTEHOST="x.example.com"),
    looked_up("the longest prefix", TCPREMOTEIP="1.2.3.5"),
    looked_up("a shorter prefix", TCPREMOTEIP="1.3.3.5"),
    looked_up("a prefix as the address", TCPREMOTEIP="1.2."),
    looked_up("a number less than a prefix", TCPREMOTEIP="1.2"),
    looked_up("an empty address", TCPREMOTEIP=""),
    looked_up("the longest suffix denies", TCPREMOTEIP="9.9.9.9", TCPREMOTEHOST="x.example.com"),
    looked_up("a shorter suffix", TCPREMOTEIP="9.9.9.9", TCPREMOTEHOST="a.b.com"),
    looked_up("a suffix as the host", TCPREMOTEIP="9.9.9.9", TCPREMOTEHOST=".com"),
    looked_up("any host that is known", TCPREMOTEIP="9.9.9.9", TCPREMOTEHOST="com"),
    looked_up("an empty host is known", TCPREMOTEIP="9.9.9.9", TCPREMOTEHOST=""),
    looked_up("upper case is another host", TCPREMOTEIP="9.9.9.9", TCPREMOTEHOST="H.EXAMPLE.ORG"),
    looked_up("only the default", TCPREMOTEIP="9.9.9.9"),
    looked_up("a default that denies", STRICT, TCPREMOTEIP="9.9.9.9"),
    looked_up("allowed before a default that denies", STRICT, TCPREMOTEIP="10.9.9.9"),
    looked_up("no rule matches", NONE, TCPREMOTEIP="9.9.9.9"),
    looked_up("no rule matches host and name", NONE, TCPREMOTEIP="9.9", TCPREMOTEHOST="a.b", TCPREMOTEINFO="joe"),
    looked_up("no rules", b"", TCPREMOTEIP="9.9.9.9"),
    looked_up("the first of two rules", b"1.:deny\n1.:allow\n", TCPREMOTEIP="1.2.3.4"),
    looked_up("a second argument is ignored", STRICT, TCPREMOTEIP="10.1.1.1"),
    looked_up("a very long address", TCPREMOTEIP="1." * 5000),
    looked_up("a very long host", TCPREMOTEIP="9.9.9.9", TCPREMOTEHOST="a." * 5000 + "com"),
    Case("an empty file", ("rules.cdb",), prepare=octets(b"")),
    Case(
        "a file shorter than a header",
        ("rules.cdb",),
        prepare=octets(b"\0" * 2047),
        mended="A file that can't be whole is refused; the original allows who is looked up in the part that is there",
        ours=lambda result: result.status == 111 and b"unable to read rules.cdb: protocol error" in result.err,
    ),
    Case("a file cut off among its records", ("rules.cdb",), prepare=octets(cdb.content([(b"", b"D\0")])[:2060])),
    Case("a header of zeros: no rules", ("rules.cdb",), prepare=octets(b"\0" * 2048)),
    Case("a header that leads nowhere", ("rules.cdb",), prepare=octets(struct.pack("<II", 1 << 30, 2) * 256)),
    Case("data without an end", ("rules.cdb",), prepare=records((b"", b"D"))),
    Case("a variable without an end", ("rules.cdb",), prepare=records((b"", b"+A=b"))),
    Case("deny after a variable", ("rules.cdb",), prepare=records((b"", b"+A=b\0D\0+C=d\0"))),
    Case("deny with something behind it", ("rules.cdb",), prepare=records((b"", b"Dx\0"))),
    Case("items of other kinds", ("rules.cdb",), prepare=records((b"", b"X\0\0+A=b\0?C=d\0"))),
    Case(
        "a folder",
        ("/",),
        mended="A folder is reported; the original dies of a signal",
        ours=lambda result: result.status == 111 and b"unable to read /: " in result.err,
    ),
    Case(
        "a prefix of an IPv6 address",
        ("rules.cdb",),
        {"TCPREMOTEIP": "fe80::1:2"},
        prepare=six(),
        mended=COLON,
        ours=says(b"rule fe80::", b"set environment variable R=link", b"allow connection"),
    ),
    Case("a whole IPv6 address", ("rules.cdb",), {"TCPREMOTEIP": "::1"}, prepare=six()),
    Case(
        "an IPv4 address written as IPv6",
        ("rules.cdb",),
        {"TCPREMOTEIP": "::ffff:192.0.2.1"},
        prepare=six(),
        mended=MAPPED,
        ours=says(b"rule 192.0.2.1:", b"set environment variable R=four", b"allow connection"),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, tmp_path: Path) -> None:
    check(case, originals / "tcprulescheck", ours / "tcprulescheck", tmp_path / "work")


def test_a_rule_for_ipv6_is_found_as_it_was_compiled(ours: Path, tmp_path: Path) -> None:
    subprocess.run([ours / "tcprules", "rules.cdb", "rules.tmp"], input=SIX, cwd=tmp_path, check=True)
    for address, rule in (("::1", b"::1"), ("fe80::7", b"fe80:"), ("::ffff:192.0.2.1", b"192.0.2.1"), ("::2", b"")):
        done = subprocess.run(
            [ours / "tcprulescheck", "rules.cdb"], cwd=tmp_path, capture_output=True, env={"TCPREMOTEIP": address}
        )
        assert done.stdout.startswith(b"rule " + rule + b":\n"), address
