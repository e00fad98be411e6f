"""tcprules beside ucspi-tcp's own: exit status, messages, and the file octet for octet."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .sides import Case, Result, check

ARGUMENTS = ("rules.cdb", "rules.tmp")
OLD = b"what was there before"
IPV6 = "An address may be IPv6: the original is built for IPv4 and takes its first colon for the address's end"


def old(folder: Path) -> None:
    (folder / "rules.cdb").write_bytes(OLD)


def compiled(title: str, rules: bytes) -> Case:
    return Case(title, ARGUMENTS, stdin=rules, prepare=old)


def ipv6(title: str, rules: bytes, *keys: bytes) -> Case:
    def holds(result: Result) -> bool:
        return not result.status and not result.err and all(key in result.files["rules.cdb"] for key in keys)

    return Case(title, ARGUMENTS, stdin=rules, mended=IPV6, ours=holds)


def folder_there(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).mkdir()


CASES = (
    Case("no arguments"),
    Case("one argument", ("rules.cdb",)),
    Case("a third argument is ignored", ("rules.cdb", "rules.tmp", "more"), stdin=b"1.2.3.4:allow\n"),
    Case("the temporary file can't be made", ("rules.cdb", "none/rules.tmp"), stdin=b"1.:deny\n", prepare=old),
    Case("the file can't be moved", ("none/rules.cdb", "rules.tmp"), stdin=b"1.:deny\n"),
    Case("a folder has the name of the temporary file", ARGUMENTS, prepare=folder_there("rules.tmp")),
    Case("a folder has the name of the database", ARGUMENTS, prepare=folder_there("rules.cdb")),
    compiled("no rules at all", b""),
    compiled("one address", b"1.2.3.4:allow\n"),
    compiled("the last line without its end", b"1.2.3.4:deny"),
    compiled("all that deny and allow take", b'1.2.3.4:allow,RELAYCLIENT=""\n10.:deny,A="b",C=/d/\n:allow,X=qyq\n'),
    compiled("comments and empty lines", b"# a comment: allow\n\n  \n\t\n1.:deny\n#1:allow\n"),
    compiled("blanks at the end of a line are cut", b"1.2.3.4:allow \t \n"),
    compiled("blanks in an address are part of it", b" 1.2.3.4:allow\n1.2.3.4 :deny\n\t:allow\n # no comment:deny\n"),
    compiled("a blank after the colon", b"1.2.3.4: allow\n"),
    compiled("a CR at the end of a line", b"1.2.3.4:allow\r\n"),
    compiled("a line without a colon is ignored", b"1.2.3.4\nallow\n1-5\n2:deny\n"),
    compiled("neither allow nor deny", b"1.2.3.4:refuse\n"),
    compiled("the words are lower case", b"1.2.3.4:Allow\n"),
    compiled("nothing after the colon", b"1.2.3.4:\n"),
    compiled("something after allow", b"1.2.3.4:allowed\n"),
    compiled("something after deny", b"1.2.3.4:denyall\n"),
    compiled("a second instruction", b"1.2.3.4:allow:deny\n"),
    compiled("a comma with nothing behind it", b"1.2.3.4:allow,\n"),
    compiled("a variable without a value", b"1.2.3.4:allow,A\n"),
    compiled("a variable without a quote", b"1.2.3.4:allow,A=\n"),
    compiled("a quote that does not end", b'1.2.3.4:allow,A="b\n'),
    compiled("two variables without a comma between", b'1.2.3.4:allow,A="b"C="d"\n'),
    compiled("a comma after the last variable", b'1.2.3.4:allow,A="b",\n'),
    compiled("any octet quotes", b'1.:allow,A=/b"c/,D=eee,F==x=,G=:allow:\n'),
    compiled("empty names and values", b'1.:allow,="x",A="",="",B=//\n'),
    compiled("a blank before a name is part of it", b'1.:allow, A="x"\n'),
    compiled("NUL and octets above 127", b'1.:allow,A="x\0y",B="\xff\xe3\x81\x82"\n\x00\xff:deny\n'),
    compiled("a NUL in a line that is reported", b"1.2\x003:refuse\n"),
    compiled("a range of the last number", b"1.2.3.37-53:allow\n"),
    compiled("a range of an inner number", b"10.2-3.:deny\n"),
    compiled("a range of the first number", b"1-3.:deny\n12-13:allow\n"),
    compiled("a range with something after it", b"1.2.3-5.6:allow\n"),
    compiled("a range that runs backwards", b"1.5-3.:allow\n"),
    compiled("a range beyond 255", b"1.254-300.:deny\n300-400.:deny\n255-256.:deny\n"),
    compiled("only the first range of a line counts", b"1.2-3.4-5:allow\n"),
    compiled("a range without its ends", b"-5.:allow\n1.-:allow\n2.3-.:deny\n-:deny\n"),
    compiled("leading zeros of a range", b"01-02.:allow\n1.007-0008:deny\n"),
    compiled(
        "numbers beyond 64 bits", b"18446744073709551617-18446744073709551618:deny\n9999999999-99999999999:allow\n"
    ),
    compiled("a dash in a name", b"a-b.example:allow\n"),
    compiled("two dashes in a row", b"1.2--3.:allow\n"),
    compiled("a range with something behind its numbers", b"1-2x:allow\n"),
    compiled("no ranges where there is = or @", b"=a-b.example:allow\nx@1.2.3.4-5:deny\nu@=1-2.example:allow\n"),
    compiled("names, and what the identity server says", b"=.example.com:allow\n=:deny\njoe@1.2.3.4:allow\n@:deny\n"),
    compiled("the same address twice", b'1.2.3.4:allow\n1.2.3.4:deny\n1.2.3.4:allow,A="b"\n'),
    compiled("a wrong line after good ones", b"1.:allow\n2.:deny\nwrong:\n3.:allow\n"),
    compiled("the whole of 10.0.0.0/16 and more", b"10.0.0-255.:deny\n" + b"10.0.0-255.7:allow\n"),
    compiled("a thousand rules with variables", b"".join(b'10.%d.:allow,N="%d"\n' % (n, n) for n in range(1000))),
    compiled("a very long line", b'1.:allow,A="' + b"x" * 100_000 + b'"\n'),
    ipv6("an IPv6 address", b"::1:allow\n", b"::1"),
    ipv6("the beginning of an IPv6 address", b'2001:db8::deny,A="b:allow"\n', b"2001:db8:", b"+A=b:allow\0"),
    ipv6("an IPv4 address written as IPv6", b"::ffff:192.0.2.1:allow\n::FFFF:10.:deny\n", b"192.0.2.1", b"10."),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, tmp_path: Path) -> None:
    check(case, originals / "tcprules", ours / "tcprules", tmp_path / "work")


ADDRESSES = st.text(alphabet="0123456789.-=@:a# \t", max_size=12)
REST = st.sampled_from(
    ["allow", "deny", 'allow,A="b"', "deny,A=/b/,C=xdx", "allow,", "allow,A", 'allow,A="', "x", "", "allow "]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.tuples(ADDRESSES, REST), max_size=4))
def test_any_rules(lines: list[tuple[str, str]], originals: Path, ours: Path, tmp_path: Path) -> None:
    """IPv6 addresses aside, in which ours departs."""
    rules = "".join(f"{address.replace(':', '')}:{rest}\n" for address, rest in lines).encode()
    case = Case("any rules", ARGUMENTS, stdin=rules, prepare=old)
    check(case, originals / "tcprules", ours / "tcprules", tmp_path / "work")


def test_the_mode_is_the_umasks(ours: Path, tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        arguments = [str(ours / "tcprules"), "rules.cdb", "rules.tmp"]
        subprocess.run(arguments, cwd=tmp_path, input=b":deny\n", umask=umask, check=True)
        assert (tmp_path / "rules.cdb").stat().st_mode & 0o777 == mode
        assert not (tmp_path / "rules.tmp").exists()


def test_a_closed_input_is_told(originals: Path, ours: Path, tmp_path: Path) -> None:
    def ended(program: Path) -> tuple[int, str]:
        command = f"exec {program} rules.cdb rules.tmp <&-"
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert (
        ended(ours / "tcprules")
        == ended(originals / "tcprules")
        == (111, "tcprules: fatal: unable to read input: file descriptor not open\n")
    )
    assert not (tmp_path / "rules.cdb").exists()
