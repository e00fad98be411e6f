"""POP before SMTP in trouble: a broker dies, the clock jumps, the folder of grants fails, or others write into it."""

import base64
import contextlib
import dataclasses
import os
import subprocess

import pytest

from pillarbox.testing import server

from ..peers.packages import unpacked
from .conversations import Smtp
from .test_deaths import kill, until
from .test_relaying import BOB, LATER, MINTED, REFUSED, SECRETS, SPENT, TRUSTED, asked, fetch, send


@pytest.fixture(scope="module")
def mail():
    with server(accounts=SECRETS, config={"relay": {"messages": 3}, "processes": {"network": 2}}) as running:
        yield running


def test_a_grant_and_its_counts_outlive_the_broker(mail):
    source = f"{TRUSTED}.36"
    fetch(mail, source)
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert [send(smtp, "outlived") for _ in range(2)] == [MINTED] * 2
    kill(mail, "broker")
    until(lambda: _serves(mail, source))
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert [send(smtp, "outlived") for _ in range(2)] == [MINTED, SPENT]


def test_a_login_to_hand_in_mail_ends_with_its_broker(mail):
    """The next broker does not know of it."""
    desk = dataclasses.replace(mail, smtp_port=mail.submission_port)
    with Smtp(desk, f"{TRUSTED}.38") as smtp:
        smtp.ehlo()
        login = base64.b64encode(f"\0alice\0{SECRETS['alice']}".encode())
        assert smtp.say(b"AUTH PLAIN " + login).startswith(b"235")
        assert send(smtp, "logged in") == MINTED
        kill(mail, "broker")
        assert smtp.line().startswith(b"421") and smtp.rest() == b""
    until(lambda: _serves(mail, f"{TRUSTED}.38"))
    assert asked(desk, f"{TRUSTED}.38") == b"530"


def _serves(mail, source):
    with contextlib.suppress(OSError, AssertionError):
        return asked(mail, source) != LATER
    return False


@pytest.mark.root
def test_a_clock_that_jumps_ends_grants_and_lengthens_none(open_folder, monkeypatch):
    """The wall clock alone: the one that counts since the boot goes on."""
    source = "127.0.0.2"
    (library,) = (unpacked("libfaketime") / "usr" / "lib").glob("*/faketime/libfaketimeMT.so.1")
    _set_clock(open_folder, "+0s")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(open_folder / "clock"))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    with server(accounts=SECRETS) as mail:
        monkeypatch.undo()
        for jump in ("+901s", "+0s", "-901s", "+0s", "+86400s"):
            assert fetch(mail, source) == b"+OK"
            assert asked(mail, source) == MINTED
            _set_clock(open_folder, jump)
            assert asked(mail, source) == REFUSED


def _set_clock(folder, offset):
    """No reader finds it half written."""
    (folder / "new").write_text(offset)
    (folder / "new").rename(folder / "clock")


# Folders that fail.


def test_a_stranger_who_writes_a_file_there_gets_nothing(mail):
    source = f"{TRUSTED}.40"
    with open(f"{mail.home}/grants/{source}", "wb") as file:
        file.write(b"USER=alice\0DOMAIN=example.test\0")
    assert asked(mail, source) == REFUSED
    os.unlink(file.name)
    fetch(mail, f"{TRUSTED}.41")
    with open(f"{mail.home}/grants/{TRUSTED}.41", "rb") as grant, open(file.name, "wb") as file:
        file.write(grant.read())
    assert asked(mail, source) == REFUSED, "a grant of another address"


def test_a_folder_in_the_place_of_a_grant(mail):
    source = f"{TRUSTED}.42"
    place = f"{mail.home}/grants/{source}"
    os.mkdir(place)
    assert asked(mail, source) == REFUSED
    assert fetch(mail, source) == b"+OK"
    assert asked(mail, source) == LATER
    os.rmdir(place)
    fetch(mail, source)
    assert asked(mail, source) == MINTED


def test_a_folder_that_is_gone_relays_nothing():
    with server(accounts=SECRETS) as mail:
        source = "127.0.0.43"
        fetch(mail, source)
        os.rename(f"{mail.home}/grants", f"{mail.home}/elsewhere")
        assert asked(mail, source) == LATER
        assert fetch(mail, source) == b"+OK"
        assert asked(mail, source) == LATER
        assert asked(mail, source, sender="a@sender.test", recipient=BOB) == MINTED, "mail for us needs no grant"
        assert f"grant-failed rip={source}" in mail.log()
        os.rename(f"{mail.home}/elsewhere", f"{mail.home}/grants")
        assert fetch(mail, source) == b"+OK"
        assert asked(mail, source) == MINTED


@pytest.mark.root
@pytest.mark.parametrize("option", ["ro", "nr_inodes=1"], ids=["read-only", "full"])
def test_a_folder_that_takes_no_file_relays_nothing(open_folder, option):
    folder, source = open_folder / "grants", "127.0.0.44"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"{option},size=1m", "grants", str(folder))
    try:
        with server(accounts=SECRETS, config={"relay": {"directory": str(folder)}}) as mail:
            assert asked(mail, source) == REFUSED
            assert fetch(mail, source) == b"+OK"
            assert asked(mail, source) == LATER
            _mount("-o", "remount,rw,nr_inodes=100", str(folder))
            assert fetch(mail, source) == b"+OK"
            assert asked(mail, source) == MINTED
            _mount("-o", "remount,ro", str(folder))
            assert asked(mail, source) == MINTED
            with Smtp(mail, source) as smtp:
                smtp.ehlo()
                assert send(smtp, "it can't be counted") == LATER
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments):
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
