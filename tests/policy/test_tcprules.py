"""Rules: what a line means, and which rule decides. The original's own answers: tests/classic/test_tcprules*.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy import tcprules
from pillarbox.policy.tcprules import Unparsable, judge, keys, records


def compiled(*lines: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for line in lines:
        for key, data in records(line):
            found.setdefault(key, data)
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"1.2.3.4:allow", [(b"1.2.3.4", b"")]),
        (b'10.:deny,A="b"', [(b"10.", b"D\0+A=b\0")]),
        (b"1.2-3.:allow", [(b"1.2.", b""), (b"1.3.", b"")]),
        (b"::1:deny", [(b"::1", b"D\0")]),
        (b"::FFFF:192.0.2.1:allow", [(b"192.0.2.1", b"")]),
        (b"::ffff:abcd:allow", [(b"::ffff:abcd", b"")]),
        (b"::ffff:10.0-1.:allow", [(b"10.0.", b""), (b"10.1.", b"")]),
        (b"no colon", []),
        (b"", []),
    ],
)
def test_a_line(line: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert records(line) == expected


@pytest.mark.parametrize(
    "line", [b"1:", b"1:allow,", b"a:b", b"1:allow\r", b"2001:db8::1-3:allow", b"-" * 9 + b":allow"]
)
def test_a_line_that_is_none(line: bytes) -> None:
    with pytest.raises(Unparsable):
        records(line)


@given(st.binary(max_size=60))
def test_any_line_has_an_answer(line: bytes) -> None:
    try:
        assert len(records(tcprules.trimmed(line))) <= 256
    except Unparsable:
        pass


def test_what_is_looked_up_and_in_which_order() -> None:
    assert list(keys(b"1.2.3.4", b"a.b.c", b"joe")) == [
        b"joe@1.2.3.4", b"joe@=a.b.c", b"1.2.3.4", b"=a.b.c", b"1.2.3.", b"1.2.", b"1.", b"=.b.c", b"=.c", b"=", b"",
    ]  # fmt: skip
    assert list(keys(b"::ffff:1.2", None, b"joe")) == [b"joe@1.2", b"1.2", b"1.", b""]
    assert list(keys(b"fe80:1::2", None, None)) == [b"fe80:1::2", b"fe80:1::", b"fe80:1:", b"fe80:", b""]


def test_the_first_rule_decides_alone() -> None:
    found = compiled(b'1.2.3.4:allow,A="b"', b"1.:deny", b":deny")
    verdict = judge(found.get, b"1.2.3.4", None, None)
    assert (verdict.allowed, verdict.variables, verdict.key) == (True, ((b"A", b"b"),), b"1.2.3.4")
    assert not judge(found.get, b"1.2.3.5", None, None).allowed


def test_without_a_rule_all_are_allowed() -> None:
    verdict = judge({}.get, b"1.2.3.4", b"host", b"info")
    assert (verdict.allowed, verdict.variables, verdict.key) == (True, (), None)


@given(st.binary(max_size=40))
def test_any_data_has_a_verdict(data: bytes) -> None:
    verdict = judge({b"": data}.get, b"1.2.3.4", None, None)
    assert verdict.allowed != any(item.startswith(b"D") for item in tcprules.items(data))


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"2001:DB8:0::1:allow", b"2001:db8::1"),
        (b"2001:DB8::deny", b"2001:db8:"),
        (b":::allow", b"::"),
        (b"info@::1:allow", b"info@::1"),
        (b"::FFFF:192.0.2.1:deny", b"192.0.2.1"),
    ],
)
def test_an_ipv6_address_is_written_as_connections_have_it(line: bytes, key: bytes) -> None:
    assert [found for found, _ in records(line)] == [key]


@pytest.mark.parametrize(
    "line", [b"::deny", b"=h.test::allow", b"192.0.2.1:1:deny", b"2001:db8:allow", b"fe80::1%lo:deny"]
)
def test_an_address_with_a_colon_that_no_connection_has_is_a_slip(line: bytes) -> None:
    with pytest.raises(Unparsable):
        records(line)


def test_a_variable_that_is_set_twice_is_told_twice() -> None:
    verdict = judge({b"": b"+A=b\0+A=c\0"}.get, b"192.0.2.1", None, None)
    assert verdict.variables == ((b"A", b"b"), (b"A", b"c"))
