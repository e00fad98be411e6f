"""The signer: its signatures judged by dkimpy, its choice of keys, and mail that goes out whatever is wrong with them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import dkim as dkimpy
import pytest

from pillarbox import log
from pillarbox.delivery.signing import Signer
from pillarbox.protocol.dkim import record, record_name
from pillarbox.store import dkim_keys
from pillarbox.store.dkim_keys import Key

from ..corpus import real, sample

KEYS = [
    Key("example.org", "s1-ed", dkim_keys.generate("ed25519")),
    Key("example.org", "s1-rsa", dkim_keys.generate("rsa")),
]
HEADER = (
    b"From: Alice <alice@example.org>\nTo: bob@example.test\nSubject: hello\nDate: Mon, 2 Nov 2026 09:00:00 +0000\n"
)
MESSAGE = HEADER + b"\nbody\n"
NOW = 1_793_610_000.0


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for key in KEYS:
        dkim_keys.add(str(tmp_path), key)
    return str(tmp_path)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(log, "line", lambda event, **fields: lines.append(f"{event} {fields}"))
    return lines


def signer(folder: str) -> Signer:
    return Signer(folder, clock=lambda: NOW)


def wire(message: bytes) -> bytes:
    mended = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return (mended if mended.endswith(b"\n") else mended + b"\n").replace(b"\n", b"\r\n")


def dns(keys: list[Key]) -> Callable[..., bytes | None]:
    records = {record_name(key.domain, key.selector) + ".": record(key.algorithm, key.public) for key in keys}

    def answer(name: bytes, timeout: int = 0) -> bytes | None:
        found = records.get(name.decode())
        return found.encode() if found else None

    return answer


def judged(message: bytes, keys: list[Key] = KEYS) -> list[bool]:
    """What dkimpy says of each signature."""
    count = wire(message).lower().count(b"dkim-signature:")
    return [verdict(wire(message), index, keys) for index in range(count)]


def verdict(message: bytes, index: int, keys: list[Key]) -> bool:
    try:
        return dkimpy.DKIM(message).verify(idx=index, dnsfunc=dns(keys))
    except dkimpy.ValidationError:
        return False


MESSAGES = {
    "plain": MESSAGE,
    "folded": MESSAGE.replace(b"hello", b"hello\n\tfolded  \n  and again "),
    "empty body": HEADER + b"\n",
    "no body": HEADER,
    "no final newline": HEADER + b"\nbody",
    "empty lines at the end": MESSAGE + b"\n\n\n",
    "nothing but empty lines": HEADER + b"\n\n\n\n",
    "blanks at line ends": HEADER + b"\nbody  \n  \t\nmore\t\n \n",
    "blanks at the end": HEADER + b"\nbody\n  ",
    "tabs and blanks within": HEADER + b"\n\ta \t b\n  c\n",
    "8-bit": HEADER.replace(b"hello", "grüße".encode()) + b"\n\xe4\xff\x00\n",
    "repeated fields": b"To: x@example.test\nList-Id: one\n" + HEADER + b"List-Id: two\nTo: y@example.test\n\nbody\n",
    "empty subject": MESSAGE.replace(b" hello", b""),
    "CRLF": MESSAGE.replace(b"\n", b"\r\n"),
    "lone CR": HEADER + b"\nbody\rmore\r\rand\r",
    "dots": HEADER + b"\n.\n..\n.x\n",
    "long": HEADER + b"\n" + b"0123456789 abcdef  \n\n" * 20_000,
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_dkimpy_finds_both_signatures_right(message: bytes, folder: str) -> None:
    fields = signer(folder).sign(message)
    assert fields.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;")
    assert fields.count(b"a=ed25519-sha256") == 1
    assert judged(fields + message) == [True, True]


@pytest.mark.parametrize("mail", sample.ACCEPTED, ids=lambda mail: mail.name)
def test_dkimpy_finds_odd_mail_signed_right(mail: sample.Sample, folder: str) -> None:
    message = ours(mail.data.replace(b"\r\n", b"\n"))
    assert judged(signer(folder).sign(message) + message) == [True, True]


@pytest.mark.corpus
def test_dkimpy_finds_real_mail_signed_right(folder: str) -> None:
    try:
        mails = real.load()
    except real.Unavailable as error:
        (pytest.fail if real.in_ci() else pytest.skip)(str(error))
    signing = signer(folder)
    for mail in [*mails[:: len(mails) // 200], *real.odd(mails, 100)]:
        message = ours(real.with_lf(mail.data))
        assert judged(signing.sign(message) + message) == [True, True], mail.name


def ours(message: bytes) -> bytes:
    """Written by an author of ours, and by nobody else; without the lines that dkimpy takes for no header."""
    header, blank, body = message.partition(b"\n\n")
    lines = re.sub(rb"(?im)^(from|dkim-signature)(?=[ \t]*:)", rb"X-\1", header).split(b"\n")
    fields = [line for line in lines if line[:1] in (b" ", b"\t") or re.match(rb"[!-9;-~]+:", line)]
    return b"From: alice@example.org\n" + b"\n".join(fields) + blank + body


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message.replace(b"body", b"Body"),
        lambda message: message + b"more\n",
        lambda message: message.replace(b"Subject: hello", b"Subject: hell"),
        lambda message: b"From: mallory@example.test\n" + message,
        lambda message: b"Subject: other\n" + message,
        lambda message: b"Content-Type: text/html\n" + message,
        lambda message: b"Reply-To: mallory@example.test\n" + message,
    ],
)
def test_what_was_changed_or_added_is_found_out(change: Callable[[bytes], bytes], folder: str) -> None:
    signed = signer(folder).sign(MESSAGE) + MESSAGE
    assert judged(change(signed)) == [False, False]


@pytest.mark.parametrize(
    "change",
    [
        lambda message: b"Received: from somewhere\n" + message,
        lambda message: b"Return-Path: <>\nDelivered-To: bob\n" + message,
        lambda message: message.replace(b"Subject: hello", b"subject:   hello "),
        lambda message: message + b"\n\n",
    ],
)
def test_what_happens_on_the_way_does_no_harm(change: Callable[[bytes], bytes], folder: str) -> None:
    signed = signer(folder).sign(MESSAGE) + MESSAGE
    assert judged(change(signed)) == [True, True]


# Which key.


def test_the_nearest_domain_signs(tmp_path: Path) -> None:
    for domain in ("example.org", "b.example.org", "example.test"):
        dkim_keys.add(str(tmp_path), Key(domain, "s1", KEYS[0].private))
    signing = signer(str(tmp_path))
    signs = {
        "example.org": "example.org",
        "EXAMPLE.org": "example.org",
        "c.example.org": "example.org",
        "b.example.org": "b.example.org",
        "a.b.example.org": "b.example.org",
    }
    for author, domain in signs.items():
        message = MESSAGE.replace(b"@example.org", f"@{author}".encode())
        assert f" d={domain};".encode() in re.sub(rb"\s+", b" ", signing.sign(message))


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE.replace(b"@example.org", b"@example.test"),
        MESSAGE.replace(b"@example.org", b"@notexample.org"),
        MESSAGE.replace(b"@example.org", b"@org"),
        MESSAGE.replace(b"<alice@example.org>", b"<alice@../example.org>"),
        b"From: bob@example.org\n" + MESSAGE,
        MESSAGE.replace(b"From", b"X-From"),
        b"\n" + MESSAGE,
        b"",
        b"X: " + b"x" * (2 << 20) + b"\n" + MESSAGE,
    ],
    ids=range(9),
)
def test_who_has_no_key_here_is_not_signed_for(message: bytes, folder: str, logged: list[str]) -> None:
    assert signer(folder).sign(message) == b""
    assert logged == []


def test_keys_come_and_go_without_a_restart(tmp_path: Path, logged: list[str]) -> None:
    signing = signer(str(tmp_path / "dkim"))
    assert signing.sign(MESSAGE) == b""
    (tmp_path / "dkim").mkdir()
    for count, key in enumerate(KEYS, 1):
        dkim_keys.add(str(tmp_path / "dkim"), key)
        assert signing.sign(MESSAGE).count(b"DKIM-Signature") == count
    for count, key in ((1, KEYS[0]), (0, KEYS[1])):
        dkim_keys.remove(str(tmp_path / "dkim"), "example.org", key.selector)
        assert signing.sign(MESSAGE).count(b"DKIM-Signature") == count
    assert logged == []


def test_keys_are_read_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signing = signer(folder)
    first = signing.sign(MESSAGE)
    monkeypatch.setattr(dkim_keys, "load", None)
    assert signing.sign(MESSAGE) == first


def test_no_message_bears_more_than_four_signatures_and_the_latest_keys_sign(tmp_path: Path) -> None:
    for month in range(1, 7):
        dkim_keys.add(str(tmp_path), Key("example.org", f"s20260{month}", KEYS[0].private))
    signed = signer(str(tmp_path)).sign(MESSAGE)
    assert signed.count(b"DKIM-Signature") == dkim_keys.LIMIT
    assert b"s=s202606;" in signed and b"s=s202602;" not in signed


# What is wrong with a key holds no mail up.


def test_a_damaged_key_is_told_once_and_the_other_signs(folder: str, logged: list[str]) -> None:
    path = Path(folder) / "example.org" / "s1-rsa.pem"
    pem = path.read_bytes()
    path.write_bytes(b"damaged")
    signing = signer(folder)
    for _ in range(3):
        assert judged(signing.sign(MESSAGE) + MESSAGE) == [True]
    assert len(logged) == 1 and "dkim-trouble" in logged[0] and "s1-rsa.pem is damaged" in logged[0]
    path.write_bytes(pem)
    assert judged(signing.sign(MESSAGE) + MESSAGE) == [True, True]


def test_a_key_that_others_may_read_signs_again_once_that_is_mended(folder: str, logged: list[str]) -> None:
    path = Path(folder) / "example.org" / "s1-rsa.pem"
    path.chmod(0o644)
    signing = signer(folder)
    assert judged(signing.sign(MESSAGE) + MESSAGE) == [True]
    assert len(logged) == 1 and "chmod 600" in logged[0]
    path.chmod(0o600)
    assert judged(signing.sign(MESSAGE) + MESSAGE) == [True, True]


def test_a_file_whose_name_is_no_selector_signs_nothing(folder: str, logged: list[str]) -> None:
    path = Path(folder) / "example.org" / "s1-rsa.pem"
    path.rename(path.with_name("s1; x=1.pem"))
    assert judged(signer(folder).sign(MESSAGE) + MESSAGE) == [True]
    assert len(logged) == 1 and "no selector" in logged[0]


@pytest.mark.parametrize("closed", ["", "example.org"])
def test_a_folder_that_can_not_be_read_is_told_once(
    closed: str, folder: str, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dkim_keys.os.listdir

    def listdir(place: str) -> list[str]:
        if place == f"{folder}/{closed}".rstrip("/"):
            raise PermissionError(13, "Permission denied")
        return real(place)

    signing = signer(folder)
    monkeypatch.setattr(dkim_keys.os, "listdir", listdir)
    for name in ("alice", "bob", "carol"):
        assert signing.sign(MESSAGE.replace(b"@", f"@{name}.".encode())) == b""
    assert len(logged) == 1 and "Permission denied" in logged[0]
    monkeypatch.undo()
    assert signing.sign(MESSAGE).count(b"DKIM-Signature") == 2


def test_a_fault_of_ours_lets_the_mail_go(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bugs: list[str] = []
    monkeypatch.setattr(log, "bug", lambda error, where: bugs.append(f"{where}: {error}"))
    monkeypatch.setattr("pillarbox.delivery.signing._signature", lambda key, digest: 1 / 0)
    assert signer(folder).sign(MESSAGE) == b""
    assert bugs == ["signing: division by zero"]


def test_threads_sign_alike(folder: str) -> None:
    signing = signer(folder)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(signing.sign(MESSAGES["long"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and found[0]
