"""What .qmail files say, line by line, and which one rules an address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.dot_qmail import (
    BLANK_START,
    FORWARD_ONLY,
    MAILDIRS_LIMIT,
    MBOX,
    NO_ADDRESS,
    NO_TEXT,
    OBSTACLES_LIMIT,
    OUTSIDE,
    PROGRAM,
    TOO_MANY,
    Instructions,
    names,
    parse,
)

HOME = "/home/alice"
DOMAIN = "ours.test"


def read(content: bytes, *, forward_only: bool = False) -> Instructions:
    said = parse(content, home=HOME, domain=DOMAIN, forward_only=forward_only)
    assert said is not None
    return said


# Lines that can be obeyed: content, Maildirs, forwards.
OBEYED: list[tuple[bytes, list[str], list[bytes]]] = [
    (b"./Maildir/\n", ["Maildir"], []),
    (b"./Maildir/", ["Maildir"], []),
    (b"./Maildir/ \t\n", ["Maildir"], []),
    (b"./Mail/lists/\n", ["Mail/lists"], []),
    (b".//Mail/./lists//\n", ["Mail/lists"], []),
    (b"./a b/\n", ["a b"], []),
    (b".hidden/\n", [".hidden"], []),
    ("./Übung/\n".encode(), ["Übung"], []),
    (b"/home/alice/Maildir/\n", ["Maildir"], []),
    (b"./Maildir/\n./archive/\n./Maildir/\n", ["Maildir", "archive"], []),
    (b"&bob@elsewhere.test\n", [], [b"bob@elsewhere.test"]),
    (b"bob@elsewhere.test\n", [], [b"bob@elsewhere.test"]),
    (b"7up@elsewhere.test \n", [], [b"7up@elsewhere.test"]),
    (b"&bob\n", [], [b"bob@ours.test"]),
    (b"bob-list\n", [], [b"bob-list@ours.test"]),
    (b"_x@elsewhere.test\n", [], [b"_x@elsewhere.test"]),
    (b'"a b"@elsewhere.test\n', [], [b'"a b"@elsewhere.test']),
    (b"&a@b.test\n&c@d.test\n&a@b.test\n", [], [b"a@b.test", b"c@d.test"]),
    (b"# keep a copy\n./Maildir/\n\n&a@b.test\n", ["Maildir"], [b"a@b.test"]),
    (b"&a@b.test\n./Maildir/\n", ["Maildir"], [b"a@b.test"]),
    (b"#\n", [], []),
    (b"# only words | and ./Mailbox\n", [], []),
    (b"#\n\n \n\t\n", [], []),
    (b"+list\n&a@b.test\n", [], [b"a@b.test"]),
    (b"./Maildir/\n+list\n&a@b.test\n", ["Maildir"], [b"a@b.test"]),
    (b"+unknown\n./Maildir/\n", ["Maildir"], []),
]


@pytest.mark.parametrize(("content", "maildirs", "forwards"), OBEYED)
def test_what_can_be_obeyed(content: bytes, maildirs: list[str], forwards: list[bytes]) -> None:
    assert read(content) == Instructions(tuple(maildirs), tuple(forwards))


# Lines that stand in the way: content, and each such line with why.
OBSTACLES: list[tuple[bytes, list[tuple[int, str]]]] = [
    (b"|vacation alice\n", [(1, PROGRAM)]),
    (b"./Maildir/\n|preline procmail\n", [(2, PROGRAM)]),
    (b"./Mailbox\n", [(1, MBOX)]),
    (b"/var/mail/alice\n", [(1, MBOX)]),
    (b".\n", [(1, MBOX)]),
    (b"/var/mail/lists/\n", [(1, OUTSIDE)]),
    (b"./../bob/Maildir/\n", [(1, OUTSIDE)]),
    (b"./a/../../bob/\n", [(1, OUTSIDE)]),
    (b"../Maildir/\n", [(1, OUTSIDE)]),
    (b"/home/alice2/Maildir/\n", [(1, OUTSIDE)]),
    (b"/home/alice/\n", [(1, OUTSIDE)]),
    (b"./\n", [(1, OUTSIDE)]),
    (b"/\n", [(1, OUTSIDE)]),
    (b"\n", [(1, BLANK_START)]),
    (b" \t\n./Maildir/\n", [(1, BLANK_START)]),
    (b"./Maildir/\r\n", [(1, MBOX)]),
    (b"&bob@elsewhere.test\r\n", [(1, NO_ADDRESS)]),
    (b"./a\x00b/\n", [(1, NO_TEXT)]),
    (b"./\xff/\n", [(1, NO_TEXT)]),
    (b" bob@elsewhere.test\n", [(1, NO_ADDRESS)]),
    (b"& bob@elsewhere.test\n", [(1, NO_ADDRESS)]),
    (b"bob @elsewhere.test\n", [(1, NO_ADDRESS)]),
    (b"a@b.test c@d.test\n", [(1, NO_ADDRESS)]),
    (b"<a@b.test>\n", [(1, NO_ADDRESS)]),
    (b"&\n", [(1, NO_ADDRESS)]),
    (b"a@\n", [(1, NO_ADDRESS)]),
    ("jürgen@b.test\n".encode(), [(1, NO_ADDRESS)]),
    (b"a" * 300 + b"@b.test\n", [(1, NO_ADDRESS)]),
    (b"+list\n./Maildir/\n", [(2, FORWARD_ONLY)]),
    (b"|a\n./b\n&c@d.test\n", [(1, PROGRAM), (2, MBOX)]),
]


@pytest.mark.parametrize(("content", "told"), OBSTACLES)
def test_what_stands_in_the_way_is_named_with_its_line(content: bytes, told: list[tuple[int, str]]) -> None:
    assert [(obstacle.line, obstacle.why) for obstacle in read(content).obstacles] == told


def test_the_x_bit_forbids_everything_but_forwards() -> None:
    said = read(b"./Maildir/\n&a@b.test\n", forward_only=True)
    assert [obstacle.why for obstacle in said.obstacles] == [FORWARD_ONLY] and said.forwards == (b"a@b.test",)


def test_what_one_file_may_ask_for_is_bounded() -> None:
    said = read(b"".join(b"./%d/\n" % number for number in range(MAILDIRS_LIMIT)))
    assert len(said.maildirs) == MAILDIRS_LIMIT and not said.obstacles
    said = read(b"".join(b"./%d/\n./0/\n" % number for number in range(MAILDIRS_LIMIT + 1)))
    assert len(said.maildirs) == MAILDIRS_LIMIT and [one.why for one in said.obstacles] == [TOO_MANY]
    assert len(read(b"|\n" * 100_000).obstacles) == OBSTACLES_LIMIT


def test_an_empty_file_means_the_default_delivery() -> None:
    assert parse(b"", home=HOME, domain=DOMAIN) is None


@pytest.mark.parametrize(
    ("extension", "files"),
    [
        ("", [".qmail"]),
        ("list", [".qmail-list", ".qmail-default"]),
        ("a-b-c", [".qmail-a-b-c", ".qmail-a-b-default", ".qmail-a-default", ".qmail-default"]),
        ("a-", [".qmail-a-", ".qmail-a-default", ".qmail-default"]),
        ("First.Last", [".qmail-first:last", ".qmail-default"]),
        ("default", [".qmail-default", ".qmail-default"]),
    ],
)
def test_which_files_rule_an_address(extension: str, files: list[str]) -> None:
    assert list(names(extension)) == files


@given(st.binary(max_size=200))
def test_every_line_is_obeyed_or_stands_in_the_way(content: bytes) -> None:
    """Nothing is passed over but blanks, comments and +; no Maildir leads out of the home folder."""
    said = parse(content, home=HOME, domain=DOMAIN)
    if said is None:
        assert content == b""
        return
    lines = content.split(b"\n")
    ordering = {line.rstrip(b" \t") for line in lines if line.strip(b" \t") and line[:1] not in (b"#", b"+")}
    assert bool(ordering) <= bool(said.maildirs or said.forwards or said.obstacles)
    assert len(said.maildirs) + len(said.forwards) + len(said.obstacles) <= len(lines)
    for maildir in said.maildirs:
        assert maildir and not maildir.startswith("/") and not {".", ".."} & set(maildir.split("/"))
    for address in said.forwards:
        assert b"@" in address and b"\n" not in address


@given(st.text("abc-.", max_size=12))
def test_the_search_goes_from_the_longest_to_the_shortest(extension: str) -> None:
    found = list(names(extension))
    assert found[0] == ".qmail" + (f"-{extension.replace('.', ':')}" if extension else "")
    assert not extension or found[-1] == ".qmail-default"
    assert [*map(len, found[1:])] == sorted(map(len, found[1:]), reverse=True)
    assert all("/" not in name and "." not in name[1:] for name in found)
