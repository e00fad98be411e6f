"""Log lines: their form, and that no value forges one."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox import log

FILTER = Path(__file__).parent.parent / "contrib" / "fail2ban" / "pillarbox.conf"


def fail2ban():
    """The regular expression that we ship, as fail2ban uses it: behind the date, with its word for an address."""
    expression = re.search(r"^failregex = (.*)$", FILTER.read_text(), re.MULTILINE)[1]
    return re.compile(expression.replace("<ADDR>", r"(?P<rip>[0-9a-fA-F.:]+)"))


@pytest.fixture
def lines(monkeypatch):
    written = []
    monkeypatch.setattr(log, "_write", written.append)
    log.configure(host="mail.example.test")
    return written


def test_form(lines):
    log.line("session", rip="192.0.2.1", user="a b", why=None, octets=12)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z mail\.example\.test pillarbox\[\d+\]: "
        r'session rip=192\.0\.2\.1 user="a b" octets=12\n',
        lines[0],
    )


def test_json_is_one_object_a_line(lines):
    log.configure(host="h", form="json")
    log.line("session", rip="192.0.2.1", user='x"\ny')
    log.configure(host="h")
    import json

    assert json.loads(lines[0])["user"] == 'x"\ny' and lines[0].count("\n") == 1


@given(st.text(max_size=100) | st.binary(max_size=100).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_no_user_name_forges_an_address_or_a_line(user):
    written = []
    original, log._write = log._write, written.append
    try:
        log.configure(host="mail.example.test")
        log.line("auth-fail", rip="198.51.100.7", proto="pop3", mech="APOP", reason="badcred", user=user)
    finally:
        log._write = original
    assert written[0].count("\n") == 1
    match = fail2ban().match(written[0].rstrip("\n").partition(" ")[2])
    assert match and match["rip"] == "198.51.100.7"


def test_a_bug_is_logged_whole(lines):
    try:
        raise ValueError("what\nnow")
    except ValueError as error:
        log.bug(error, where="here")
    assert "bug where=here error=ValueError" in lines[0] and len(lines) > 2 and all(x.count("\n") == 1 for x in lines)
