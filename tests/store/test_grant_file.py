"""The file of one address: only its writer can make one, and relay-ctrl-check can read it."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store.grant_file import (
    ACCOUNT_LIMIT,
    CONTENT_LIMIT,
    GRANTS_PER_ADDRESS,
    GrantFile,
    StoredGrant,
    account_of,
    decode,
    encode,
    file_name,
    is_account,
    is_address,
    is_temporary,
)
from pillarbox.store.grant_folder import FUTURE_SECONDS, is_alive, temporary_name
from pillarbox.terms import Grant

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
V4 = "192.0.2.1"
TAG = b"PILLARBOX_GRANT_MAC="

milliseconds = st.integers(0, 10**15).map(lambda number: number / 1000)
counts = st.integers(0, 10**10 - 1)
accounts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=ACCOUNT_LIMIT)
mechanisms = st.sampled_from(["USER", "APOP", "PLAIN", "LOGIN", "CRAM-MD5"])
granted = st.builds(Grant, st.just(V4), accounts, milliseconds, milliseconds, mechanisms, counts, counts)
stored = st.builds(StoredGrant, granted, st.binary(min_size=8, max_size=16), milliseconds)
written = st.builds(
    GrantFile,
    st.integers(0, 10**16 - 1),
    st.text("0123456789abcdef-", min_size=1, max_size=36),
    st.lists(stored, min_size=1, max_size=GRANTS_PER_ADDRESS).map(tuple),
)


def one(account: str = "alice@example.test") -> GrantFile:
    grant = Grant(V4, account, 1_800_000_000.0, 1_800_000_900.0, "APOP", 20, 100)
    return GrantFile(7, "boot", (StoredGrant(grant, b"8 octets", 5_900.0),))


def environment(content: bytes) -> dict[str, str]:
    """What relay-ctrl-check puts into its child's environment: every terminated NAME=VALUE of the first 8,192 octets."""
    found = {}
    for part in content[:8192].split(b"\0")[:-1]:
        name, equals, value = part.partition(b"=")
        if equals:
            found[name.decode("ascii")] = value.decode("ascii")
    return found


def test_the_format() -> None:
    content = encode(V4, one(), KEY)
    body, mac = content.split(TAG)
    assert body == (
        b"USER=alice\0DOMAIN=example.test\0PILLARBOX_GRANTS=1 7 boot\0"
        b"PILLARBOX_GRANT_0=alice@example.test APOP 1800000000000 1800000900000 5900000 20 100 38206f6374657473\0"
    )
    assert len(mac) == 65 and mac.endswith(b"\0")


@given(written)
def test_what_was_written_is_read(file: GrantFile) -> None:
    assert decode(V4, encode(V4, file, KEY), KEY) == file


@given(written)
def test_relay_ctrl_check_reads_it_whole_and_sets_nothing_that_matters(file: GrantFile) -> None:
    content = encode(V4, file, KEY)
    assert len(content) <= CONTENT_LIMIT
    assert account_of(content).rstrip("@") == file.grants[-1].grant.account.rstrip("@")
    found = environment(content)
    assert {name for name in found if not name.startswith("PILLARBOX_GRANT")} <= {"USER", "DOMAIN"}
    assert all(value.isprintable() for value in found.values())


def test_the_longest_household_fits() -> None:
    grant = Grant(V4, "a" * ACCOUNT_LIMIT, 9e12, 9e12, "CRAM-MD5", 10**10 - 1, 10**10 - 1)
    file = GrantFile(10**16 - 1, "b" * 36, (StoredGrant(grant, b"f" * 16, 9e12),) * GRANTS_PER_ADDRESS)
    assert len(encode(V4, file, KEY)) < CONTENT_LIMIT


def test_an_account_without_a_domain() -> None:
    assert encode(V4, one("carol"), KEY).startswith(b"USER=carol\0PILLARBOX_GRANTS=")


# Forgeries.


@given(written, st.data())
def test_a_changed_octet_is_no_grant(file: GrantFile, data: st.DataObject) -> None:
    content = bytearray(encode(V4, file, KEY))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    assert decode(V4, bytes(content), KEY) is None


@given(written, st.data())
def test_a_cut_or_longer_file_is_no_grant(file: GrantFile, data: st.DataObject) -> None:
    content = encode(V4, file, KEY)
    place = data.draw(st.integers(0, len(content) - 1))
    extra = data.draw(st.binary(min_size=1, max_size=40))
    assert decode(V4, content[:place], KEY) is None
    assert decode(V4, content + extra, KEY) is None
    assert decode(V4, content[:place] + extra + content[place:], KEY) is None


@given(written)
def test_another_address_and_another_key_are_no_grant(file: GrantFile) -> None:
    assert decode("192.0.2.2", encode(V4, file, KEY), KEY) is None
    assert decode("2001:db8::1", encode(V4, file, KEY), KEY) is None
    assert decode(V4, encode(V4, file, OTHER_KEY), KEY) is None


@given(st.binary(max_size=300))
def test_what_anybody_may_write_is_no_grant(content: bytes) -> None:
    assert decode(V4, content, KEY) is None
    assert decode(V4, content + TAG + b"0" * 64 + b"\0", KEY) is None


@pytest.mark.parametrize(
    "content", [b"", b"USER=alice\0", b"USER=alice\0DOMAIN=example.test\0", b"\0", TAG, TAG + b"\0"]
)
def test_relay_ctrls_own_is_none_of_ours(content: bytes) -> None:
    assert decode(V4, content, KEY) is None


def test_a_later_version_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from pillarbox.store import grant_file

    monkeypatch.setattr(grant_file, "_VERSION", b"2")
    content = encode(V4, one(), KEY)
    monkeypatch.undo()
    assert b"PILLARBOX_GRANTS=2 " in content
    assert decode(V4, content, KEY) is None


# Names.


@pytest.mark.parametrize(
    ("content", "account"),
    [
        (b"USER=carol\0", "carol"),
        (b"USER=carol\0DOMAIN=\0", "carol"),
        (b"DOMAIN=example.test\0USER=carol\0", "carol@example.test"),
        (b"", ""),  # relay-ctrl-udp's
        (b"nonsense", ""),
        (b"USER=unterminated", ""),
        (b"LD_PRELOAD=/tmp/x\0USER=a=b\0", "a=b"),
        (b"USER=\xff\0", "\ufffd"),
    ],
)
def test_whose_it_is(content: bytes, account: str) -> None:
    assert account_of(content) == account


@pytest.mark.parametrize(
    "address", ["", ".", "..", "../192.0.2.1", "192.0.2.1/../x", "localhost", "fe80::1%../../x", "fe80::1%eth0", "\0"]
)
def test_what_is_no_address_is_no_file(address: str) -> None:
    assert file_name(address) is None
    assert not is_address(address)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (V4, V4),
        ("::ffff:192.0.2.1", V4),
        ("::FFFF:C000:0201", V4),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::1", "::1"),
    ],
)
def test_an_address_has_one_file_however_it_is_written(address: str, name: str) -> None:
    assert file_name(address) == name
    assert is_address(name)
    assert is_address(address) is (address == name)


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[0-9a-fA-F:./%]{1,45}", fullmatch=True)))
def test_a_peer_never_names_another_file(address: str) -> None:
    name = file_name(address)
    if name is not None:
        assert "/" not in name
        assert name not in {"", ".", ".."}
        assert str(ip_address(name)) == name


def test_names_of_files_being_written() -> None:
    assert is_temporary(".1800000000.000001:77")
    assert not any(map(is_temporary, ["", ".", "..", ".bashrc", "1.2:3", ".1.2:3x", ".1.2:3\n", V4]))


@pytest.mark.parametrize("name", ["", "a b", "a\0b", "ali\u00e7e", "a\n", "\x7f", "a" * (ACCOUNT_LIMIT + 1)])
def test_what_can_be_no_account(name: str) -> None:
    assert not is_account(name)


@given(st.floats(0, 4e9), st.integers(1, 1 << 22))
def test_the_name_that_we_write_under_is_one(now: float, process: int) -> None:
    assert is_temporary(temporary_name(now, process))


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9.]{1,18}", fullmatch=True), st.ip_addresses().map(str)))
def test_what_is_an_address_is_what_the_library_says(address: str) -> None:
    try:
        parsed = ip_address(address)
    except ValueError:
        assert file_name(address) is None
    else:
        zone = isinstance(parsed, IPv6Address) and parsed.scope_id is not None
        assert file_name(address) == (None if zone else str(getattr(parsed, "ipv4_mapped", None) or parsed))


def test_a_grant_lasts_to_its_second() -> None:
    assert is_alive(1000, 900, 1900)
    assert not is_alive(1000, 900, 1901)
    assert is_alive(1000 + FUTURE_SECONDS, 900, 1000)
    assert not is_alive(1000 + FUTURE_SECONDS + 1, 900, 1000)
