"""Who may send, decided once more before the queue takes a message: logins, grants, what is seen of an address, uids."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pillarbox.broker import standing
from pillarbox.broker.admission import Admission
from pillarbox.broker.directory import Directory
from pillarbox.broker.standing import Standing, Standings
from pillarbox.config import Config
from pillarbox.messages import Login
from pillarbox.messages_delivery import Admit, Verdict
from pillarbox.policy.networks import Networks
from pillarbox.store.devices import Credential
from pillarbox.terms import TryLater

from .test_directory import Source

HOME, OTHER, TRUSTED, V6 = "192.0.2.1", "192.0.2.2", "10.0.0.1", "2001:db8::1"
ALICE, BOB = b"alice@example.test", b"bob@example.test"
OUT, IN = b"x@elsewhere.test", b"bob@example.test"
DAY = 86_400


class Office:
    """Standings over accounts in memory and grants in a folder, with clocks that stand still until they are moved."""

    def __init__(self, folder: Path | str, **relay: Any) -> None:
        self.folder = Path(folder)
        self.wall, self.clock = 1_800_000_000.0, 1000.0
        self.source = Source("alice", "bob", "carol")
        self.standings = Standings(b"k" * 32, "boot")
        self.configure(**relay)

    def configure(self, smtpd_users: tuple[str | int, ...] = (), **relay: Any) -> None:
        aliases = {"info": "alice", "sales": "bob"}
        tree = {"domains": ["example.test"], "aliases": aliases, "relay": {"messages": 3, "recipients": 5, **relay}}
        tree["queue"] = {"smtpd_users": list(smtpd_users)}
        config = msgspec.convert(tree, Config)
        self.directory = Directory(config, self.source, lambda _: self.source)  # type: ignore[arg-type, return-value]
        self.standings.configure(config, self.directory, str(self.folder), Networks(("10.0.0.0/8",)))
        self.admission = Admission(self.standings, self.directory, config.relay.recipients, config.queue.smtpd_users)

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.clock += seconds

    def login(self, name: str = "alice", peer: str = HOME, mechanism: str = "APOP", *, secured: bool = False) -> None:
        account, (own, *_) = self.directory.credentials(name.encode())
        assert account is not None
        self.standings.logged_in(_login(name, peer, mechanism, secured=secured), account, own)

    def authenticate(self, session: tuple[int, int], name: str = "alice", peer: str = HOME) -> None:
        account, (own, *_) = self.directory.credentials(name.encode())
        assert account is not None
        self.standings.authenticated(session, account.name, own, peer)

    def fail(self, name: str, peer: str = HOME) -> None:
        self.standings.failed(_login(name, peer, "APOP"))

    def send(self, *recipients: bytes, sender: bytes = ALICE, peer: str = HOME, **more: Any) -> Verdict:
        question = {"network": 0, "login": 0, "submission": False, **more}
        return self.admission.admit(Admit(1, sender, recipients or (OUT,), peer, **question))

    def local(self, uid: int, *recipients: bytes, sender: bytes | None = None, came: str = "") -> Verdict:
        question = Admit(1, sender or b"", recipients or (OUT,), "", 0, 0, True, uid, sender is not None, came)
        return self.admission.admit(question)


def _login(name: str, peer: str, mechanism: str, *, secured: bool = False) -> Login:
    return Login(1, name.encode(), b"", mechanism, b"<1@x.test>", secured, peer)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`clocks.of` is the office whose clocks count."""
    clocks = SimpleNamespace(of=None)
    monkeypatch.setattr(standing, "time", SimpleNamespace(time=lambda: clocks.of.wall))
    monkeypatch.setattr(standing, "monotonic", lambda: clocks.of.clock)
    return clocks


@pytest.fixture
def office(tmp_path: Path, clocks: SimpleNamespace) -> Iterator[Office]:
    clocks.of = Office(tmp_path)
    yield clocks.of


def _full_disk(*_: object) -> int:
    raise OSError(28, "No space left on device")


def _read_only(*_: object) -> bool:
    raise OSError(30, "Read-only file system")


def reply(verdict: Verdict) -> tuple[int, str]:
    return verdict.code, verdict.enhanced


YES = (0, "")
NO_RELAY, NO_MAILBOX, NOT_OWNED = (550, "5.7.1"), (550, "5.1.1"), (550, "5.7.1")
LATER, SPENT, NOT_LOGGED_IN = (451, "4.3.0"), (450, "4.7.1"), (530, "5.7.0")


# Strangers.


def test_a_stranger_brings_mail_for_us_and_nothing_else(office: Office) -> None:
    assert office.send(IN, sender=b"a@sender.test") == Verdict(1, sender=b"a@sender.test")
    assert reply(office.send(IN, sender=b"")) == YES
    assert reply(office.send(b"nobody@example.test")) == NO_MAILBOX
    assert reply(office.send(OUT)) == NO_RELAY and "fetch your mail" in office.send(OUT).text
    assert reply(office.send(IN, OUT)) == NO_RELAY


def test_the_submission_port_wants_a_login_for_any_recipient(office: Office) -> None:
    assert reply(office.send(OUT, submission=True)) == NOT_LOGGED_IN
    assert reply(office.send(IN, submission=True)) == NOT_LOGGED_IN


def test_a_store_that_can_not_tell_admits_nothing(office: Office) -> None:
    office.source.trouble = TryLater("the disk")
    for ask in (lambda: office.send(IN), lambda: office.local(0, IN)):
        with pytest.raises(TryLater):
            ask()


# Logins where mail is handed in.


def test_a_login_sends_as_its_own_addresses_or_as_nobody(office: Office) -> None:
    office.authenticate((0, 7), "alice", HOME)
    for port in (True, False):
        for sender in (ALICE, b"Info@Example.test", b""):
            verdict = office.send(OUT, IN, sender=sender, login=7, submission=port)
            assert (reply(verdict), verdict.account, verdict.sender) == (YES, "alice@example.test", sender)
        for sender in (BOB, b"a@sender.test"):
            assert reply(office.send(OUT, sender=sender, login=7, submission=port)) == NOT_OWNED
    assert reply(office.send(b"nobody@example.test", login=7, submission=True)) == NO_MAILBOX


def test_a_login_is_its_connections_alone_and_ends_with_it(office: Office) -> None:
    for session in ((0, 7), (0, 8), (1, 7), (1, 9)):
        office.authenticate(session, "alice", HOME)
    office.standings.logged_out((0, 7))
    office.standings.logged_out((0, 7))
    office.standings.forget(1)
    sent = {session: reply(office.send(network=session[0], login=session[1])) for session in ((0, 7), (0, 8), (1, 7))}
    assert sent == {(0, 7): NO_RELAY, (0, 8): YES, (1, 7): NO_RELAY}


PHONE = Credential(b"phone's secret", "phone")


def _new_secret(source: Source) -> None:
    source.secret = b"another"


def _removed(source: Source) -> None:
    source.names.remove("alice@example.test")


def _may_not_send(source: Source) -> None:
    source.more["alice@example.test"] = (replace(PHONE, sends=False),)


@pytest.mark.parametrize(
    ("credential", "change"),
    [
        (Credential(b"secret"), _new_secret),
        (Credential(b"secret"), _removed),
        (PHONE, lambda source: source.more.clear()),
        (PHONE, _removed),
        (PHONE, _may_not_send),
    ],
)
def test_a_login_ends_with_its_secret(
    office: Office, credential: Credential, change: Callable[[Source], object]
) -> None:
    office.source.more["alice@example.test"] = (PHONE,)
    office.standings.authenticated((0, 7), "alice@example.test", credential, HOME)
    assert reply(office.send(login=7, submission=True)) == YES
    change(office.source)
    assert reply(office.send(login=7, submission=True)) == NOT_LOGGED_IN
    assert reply(office.send(login=7)) == NO_RELAY
    assert "void by now" in office.standings.of(HOME, (0, 7), ALICE, submission=True).why


def test_a_login_outlives_the_changes_of_others_and_a_new_key(office: Office) -> None:
    office.source.more["alice@example.test"] = (PHONE,)
    office.authenticate((0, 7))
    office.source.more.clear()
    office.standings.rekey(b"n" * 32)
    assert reply(office.send(login=7, submission=True)) == YES


def test_whether_a_login_still_holds_can_not_be_told(office: Office) -> None:
    office.authenticate((0, 7))
    office.source.trouble = TryLater("the disk")
    with pytest.raises(TryLater):
        office.standings.of(HOME, (0, 7), ALICE, submission=True)


def test_a_login_is_not_counted(office: Office) -> None:
    office.authenticate((0, 7), "alice", HOME)
    assert all(reply(office.send(*[OUT] * 9, login=7)) == YES for _ in range(9))


# Grants.


def test_a_grant_is_bound_to_address_account_and_sender(office: Office) -> None:
    office.login()
    for sender in (ALICE, b"info@example.test"):
        assert office.send(sender=sender) == Verdict(1, "alice@example.test", sender=sender)
    assert reply(office.send(sender=BOB)) == NOT_OWNED
    assert reply(office.send(sender=b"")) == NO_RELAY
    assert reply(office.send(peer=OTHER)) == NO_RELAY
    assert reply(office.send(b"nobody@example.test", OUT)) == NO_MAILBOX


def test_why_somebody_may_not_send_is_told_to_the_log(office: Office) -> None:
    def why(sender: bytes = ALICE, peer: str = HOME, login: int = 0) -> str:
        return office.standings.of(peer, (0, login), sender).why

    assert why().startswith("no grant: nobody has fetched mail")
    office.login()
    assert why() == why(sender=b"") == ""
    assert why(sender=BOB) == "the sender is no address of the account that may send"
    for _ in range(3):
        office.send()
    assert why() == "the grant is used up"
    office.sleep(900)
    assert why() == "the grant expired at 2027-01-15T08:15:00Z"
    office.login(peer=OTHER, mechanism="USER")
    assert why(peer=OTHER) == "the login left no grant: the password crossed an untrusted network in the clear"
    office.sleep(900)
    assert why(peer=OTHER).startswith("no grant: ")
    office.login(peer=TRUSTED)
    office.source.secret = b"another"
    assert why(peer=TRUSTED) == "the account that the grant was given to has another secret now, or is gone"
    office.authenticate((0, 7), "alice", V6)
    assert (why(login=7), why(login=7, sender=b"")) == ("", "")
    assert why(login=7, sender=BOB) == "the sender is no address of the account that may send"


def test_messages_and_recipients_are_counted_and_a_login_refills(office: Office) -> None:
    office.login()
    assert reply(office.send(OUT, OUT, OUT, IN)) == YES  # 2 messages, 2 recipients left
    assert reply(office.send(OUT, OUT, OUT)) == SPENT
    assert reply(office.send(IN)) == YES and reply(office.send(IN, sender=b"a@sender.test")) == YES
    assert reply(office.send()) == reply(office.send()) == YES
    assert reply(office.send()) == SPENT
    assert reply(office.send(IN)) == YES  # of ours are none counted
    office.login()
    assert [reply(office.send()) for _ in range(4)] == [YES, YES, YES, SPENT]


def test_what_another_message_has_used_up_meanwhile_is_spent(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.login()
    monkeypatch.setattr(office.standings, "of", lambda *_, **__: Standing("grant", "bob@example.test", True, True))
    assert reply(office.send()) == SPENT


def test_the_rules_let_an_address_relay_except_on_the_submission_port(office: Office) -> None:
    office.standings.relays = lambda peer: peer == OTHER
    assert reply(office.send(sender=b"anybody@anywhere.test", peer=OTHER)) == YES
    assert reply(office.send(sender=b"anybody@anywhere.test", peer=HOME)) == (550, "5.7.1")
    verdict = office.send(sender=b"anybody@anywhere.test", peer=OTHER, submission=True)
    assert reply(verdict) == NOT_LOGGED_IN


def test_a_grant_serves_on_the_submission_port_too(office: Office) -> None:
    office.login()
    assert office.send(OUT, submission=True).account == office.send(IN, submission=True).account == "alice@example.test"
    assert reply(office.send(sender=BOB, submission=True)) == NOT_OWNED


def test_a_grant_ends(office: Office) -> None:
    office.login()
    office.sleep(899)
    assert reply(office.send()) == YES
    office.sleep(1)
    assert reply(office.send()) == NO_RELAY


@pytest.mark.parametrize("jump", [901, -901, -7, DAY, -DAY])
def test_a_clock_that_jumps_lengthens_no_grant(office: Office, jump: int) -> None:
    office.login()
    office.wall += jump
    assert reply(office.send()) == NO_RELAY
    office.clock += 900
    assert reply(office.send()) == NO_RELAY
    office.wall -= jump
    assert reply(office.send()) == NO_RELAY


def test_a_session_that_lasts_prolongs_its_grant(office: Office) -> None:
    office.login()
    for _ in range(30):
        office.sleep(61)
        office.standings.prolong(HOME, "alice@example.test")
    assert reply(office.send()) == YES


def test_a_session_prolongs_no_grant_that_was_revoked_or_of_another(office: Office) -> None:
    office.login()
    office.sleep(100)
    office.standings.prolong(HOME, "bob@example.test")
    for file in office.folder.iterdir():
        file.unlink()
    office.standings.prolong(HOME, "alice@example.test")
    assert reply(office.send()) == NO_RELAY


def test_another_secret_is_the_end_of_the_grant(office: Office) -> None:
    office.login()
    office.source.secret = b"another"
    assert reply(office.send()) == NO_RELAY
    office.login()
    assert reply(office.send()) == YES
    office.source.names.remove("alice@example.test")
    assert reply(office.send()) == NO_RELAY


def test_a_reload_keeps_the_grants(office: Office) -> None:
    office.login()
    office.configure(expiry=60)
    assert reply(office.send()) == NO_RELAY, "it is longer than it may be now"
    office.configure()
    assert reply(office.send()) == YES


# Where no grant is given.


@pytest.mark.parametrize(
    ("peer", "mechanism", "secured", "minted"),
    [
        (HOME, "APOP", False, True),
        (HOME, "USER", False, False),
        (HOME, "USER", True, True),
        (TRUSTED, "USER", False, True),
        (V6, "APOP", False, True),
        (V6, "USER", False, False),
        ("100.64.3.4", "APOP", False, False),
        ("::ffff:192.0.2.1", "APOP", False, True),
    ],
)
def test_which_logins_leave_a_grant(office: Office, peer: str, mechanism: str, secured: bool, minted: bool) -> None:
    office.login(peer=peer, mechanism=mechanism, secured=secured)
    assert reply(office.send(peer=peer)) == (YES if minted else NO_RELAY)


def test_a_second_account_ends_the_grants_of_its_address(office: Office, capfd: pytest.CaptureFixture[str]) -> None:
    office.login("alice")
    office.login("bob")
    assert reply(office.send()) == reply(office.send(sender=BOB)) == NO_RELAY
    said = capfd.readouterr().err
    assert f"grant-refused rip={HOME}" in said and "2 accounts or more have logged in from there within a day" in said
    office.login("alice")
    assert reply(office.send()) == NO_RELAY
    office.sleep(DAY + 1)
    office.login("alice")
    assert reply(office.send()) == YES


@pytest.mark.parametrize(
    ("failures", "shared"),
    [
        (["bob"], True),
        (["nobody"], True),
        (["\u00fc"], True),
        (["alice", "Alice@Example.test"], False),
        (["alice"] * 3, True),
    ],
)
def test_failed_logins_make_an_address_look_shared(office: Office, failures: list[str], shared: bool) -> None:
    for name in failures:
        office.fail(name)
    office.login()
    assert reply(office.send()) == (NO_RELAY if shared else YES)
    office.login(peer=OTHER)
    assert reply(office.send(peer=OTHER)) == YES, "another address has nothing to do with it"


def test_a_shared_address_prolongs_nothing(office: Office) -> None:
    office.login()
    office.fail("bob")
    for _ in range(15):
        office.sleep(60)
        office.standings.prolong(HOME, "alice@example.test")
    assert reply(office.send()) == NO_RELAY


def test_a_login_where_mail_is_handed_in_is_seen_too(office: Office) -> None:
    office.authenticate((0, 7), "bob", HOME)
    office.login()
    assert reply(office.send()) == NO_RELAY


def test_a_login_of_another_there_ends_the_grants_of_its_address(office: Office) -> None:
    office.login("alice")
    office.authenticate((0, 7), "alice", HOME)
    assert reply(office.send()) == YES
    office.authenticate((0, 8), "bob", HOME)
    assert reply(office.send()) == NO_RELAY
    assert reply(office.send(sender=BOB, login=8)) == YES


def test_a_password_in_the_clear_ends_no_grant_of_an_address_that_is_not_shared(office: Office) -> None:
    """The same person's other client."""
    office.login("alice")
    office.login("alice", mechanism="USER")
    assert reply(office.send()) == YES


def test_a_network_that_has_become_known_as_shared_loses_its_grants(office: Office) -> None:
    office.login("alice")
    office.configure(shared=["192.0.2.0/24"])
    office.login("alice")
    assert reply(office.send()) == NO_RELAY


def test_in_a_household_each_sends_as_itself(office: Office) -> None:
    office.configure(unshared=["192.0.2.0/24"])
    office.fail("stranger")
    office.login("alice")
    office.login("bob")
    office.authenticate((0, 7), "carol", HOME)
    assert office.send(sender=ALICE).account == "alice@example.test"
    assert office.send(sender=BOB).account == "bob@example.test"
    assert [reply(office.send(sender=BOB)) for _ in range(3)] == [YES, YES, SPENT]
    assert reply(office.send(sender=ALICE)) == YES, "what the other has used up"
    assert reply(office.send(sender=b"a@sender.test")) == NOT_OWNED


@pytest.mark.parametrize("failures", [["bob"], ["stranger"], ["alice"] * 3])
def test_an_address_that_looks_shared_by_now_has_no_grant(
    office: Office, capfd: pytest.CaptureFixture[str], failures: list[str]
) -> None:
    office.login()
    for name in failures:
        assert reply(office.send()) == YES
        office.fail(name)
    assert reply(office.send()) == NO_RELAY
    office.fail(failures[0])
    assert capfd.readouterr().err.count("grant-ended") == 1
    assert list(office.folder.iterdir()) == []


def test_a_grant_that_could_not_be_ended_is_passed_over(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.login()
    monkeypatch.setattr("pillarbox.store.grants.Grants.revoke", _read_only)
    office.fail("stranger")
    assert list(office.folder.iterdir()) != []
    assert reply(office.send()) == NO_RELAY


def test_failures_of_others_end_no_grant_of_a_household(office: Office) -> None:
    office.configure(unshared=["192.0.2.0/24"])
    office.login()
    office.fail("stranger")
    assert reply(office.send()) == YES


def test_loopback_is_an_address_like_any_other(office: Office) -> None:
    """Behind a proxy of this machine stands everybody."""
    office.login("alice", peer="127.0.0.1")
    office.login("bob", peer="127.0.0.1")
    assert reply(office.send(peer="127.0.0.1")) == NO_RELAY


def test_new_limits_forget_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pillarbox.store.files.create", _full_disk)
        office.login()
    office.login(peer=OTHER)
    before = (office.folder / OTHER).read_bytes()
    assert reply(office.send(peer=OTHER)) == YES
    office.configure(messages=4, recipients=9)
    (office.folder / OTHER).write_bytes(before)
    assert reply(office.send(peer=OTHER)) == NO_RELAY, "an older file that somebody put back"
    assert reply(office.send()) == LATER, "a login that left no grant"
    office.login()
    assert [reply(office.send()) for _ in range(5)] == [YES] * 4 + [SPENT]


def test_a_shorter_expiry_is_prolonged_in_time(office: Office) -> None:
    office.login()
    office.standings.prolong(HOME, "alice@example.test")
    office.configure(expiry=20)
    office.login()
    for _ in range(10):
        office.sleep(5)
        office.standings.prolong(HOME, "alice@example.test")
    assert reply(office.send()) == YES


# Folders that fail, and files of others.


def test_a_folder_that_is_gone_lets_the_login_succeed_and_relays_nothing(office: Office, capfd) -> None:
    office.folder.rmdir()
    office.login()
    assert "grant-failed" in capfd.readouterr().err
    assert reply(office.send()) == LATER
    assert reply(office.send(IN, sender=b"a@sender.test")) == YES, "mail for us needs no grant"
    office.standings.prolong(HOME, "alice@example.test")
    office.standings.expire()
    office.folder.mkdir()
    office.login()
    assert reply(office.send()) == YES


def test_a_login_that_left_no_grant_is_told_to_try_later(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pillarbox.store.files.create", _full_disk)
        office.login()
        assert reply(office.send()) == LATER
        assert reply(office.send(peer=OTHER)) == NO_RELAY
    office.login()
    assert reply(office.send()) == YES


@pytest.mark.parametrize("content", [b"", b"USER=alice\0DOMAIN=example.test\0", b"\xff" * 9000])
def test_a_file_that_somebody_put_there_is_no_grant(office: Office, content: bytes) -> None:
    (office.folder / HOME).write_bytes(content)
    os.utime(office.folder / HOME, (office.wall, office.wall))
    assert reply(office.send()) == NO_RELAY
    office.configure(style="classic")
    assert reply(office.send(sender=b"a@sender.test")) == YES


def test_a_grant_of_another_address_is_none_for_this_one(office: Office) -> None:
    office.login()
    (office.folder / HOME).rename(office.folder / OTHER)
    assert reply(office.send(peer=OTHER)) == NO_RELAY


def test_the_classic_style_lets_everybody_at_the_address_send_as_anybody(office: Office) -> None:
    office.configure(style="classic")
    office.login("alice", mechanism="USER")
    office.login("bob")
    os.utime(office.folder / HOME, (office.wall, office.wall))
    for sender in (ALICE, b"a@sender.test", b""):
        assert all(reply(office.send(*[OUT] * 9, sender=sender)) == YES for _ in range(9))
    assert reply(office.send(peer=OTHER)) == NO_RELAY
