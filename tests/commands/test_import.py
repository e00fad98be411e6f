"""`pillarbox import qmail`: control files of an old host become a configuration, and nothing is dropped in silence."""

from __future__ import annotations

import os
import pwd
import tomllib
from pathlib import Path

import pytest

from pillarbox import cli, config
from pillarbox.broker.privilege import as_user
from pillarbox.commands import import_app
from pillarbox.commands.import_app import as_toml
from pillarbox.commands.qmail_control import translate
from pillarbox.commands.qmail_rules import grants, rules
from pillarbox.commands.qmail_translation import Left
from pillarbox.commands.qmail_users import Users, obstacles
from pillarbox.config import Config
from pillarbox.store import cdb
from pillarbox.terms import Refused, TryLater

CONTROL = {
    "me": "mail.example.jp\n",
    "defaulthost": "example.jp\n",
    "defaultdomain": "example.jp\n",
    "locals": "# ours\nmail.example.jp\nExample.JP \nold.example.jp\n",
    "rcpthosts": "mail.example.jp\nexample.jp\nold.example.jp\nshop.jp\n",
    "virtualdomains": "shop.jp:alice-shop\ninfo@old.example.jp:bob\n",
    "smtproutes": "partner.jp:[192.0.2.5]:2525\n.intra.jp:relay.example.jp\nfree.jp:\n:smart.provider.jp\n",
    "badmailfrom": "spam@bad.jp\n@worse.jp\n",
    "databytes": "20000000\n",
    "queuelifetime": "259200\n",
    "timeoutsmtpd": "600\n",
    "concurrencyremote": "40\n",
}
ASSIGN = """=alice:alice:1000:1000:/home/alice:::
+alice-:alice:1000:1000:/home/alice:-::
=sales:alice:1000:1000:/home/alice:-:sales:
=Chief:bob:1001:1001:/home/bob:::
+:alias:900:900:/var/qmail/alias:-::
.
"""


@pytest.fixture
def qmail(tmp_path: Path) -> Path:
    folder = tmp_path / "qmail"
    for name, content in CONTROL.items():
        write(folder / "control" / name, content)
    write(
        folder / "rc", '#!/bin/sh\nexec env - PATH="/var/qmail/bin:$PATH" \\\nqmail-start ./Maildir/ splogger qmail\n'
    )
    write(folder / "users" / "assign", ASSIGN)
    write(folder / "users" / "cdb", "")
    write(folder / "alias" / ".qmail-postmaster", "alice\n")
    write(folder / "alias" / ".qmail-first:last", "&alice\nbob@elsewhere.jp\n")
    write(folder / "alias" / ".qmail-default", "bob\n")
    return folder


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(0o755, parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o644)
    return path


def user(name: str, uid: int, home: str) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", home, "/bin/sh"))


def users(*more: pwd.struct_passwd) -> Users:
    some = (user("alice", 1000, "/home/alice"), user("bob", 1001, "/home/bob"), *more)
    return Users({one.pw_name: one for one in some})


def read(folder: Path, found: Users | None = None) -> tuple[Config, list[Left]]:
    """The configuration as a server would load it, and what is left."""
    translated = translate(str(folder), found or users())
    text = as_toml(translated)
    path = folder.parent / "pillarbox.toml"
    path.write_text(text)
    return config.load(str(path)), translated.left


def counting(left: list[Left]) -> list[tuple[str, str]]:
    return [(one.file, one.value) for one in left if one.counts]


def test_a_whole_host_is_carried_over(qmail: Path) -> None:
    found, left = read(qmail)
    assert counting(left) == []
    assert found.hostname == "mail.example.jp"
    assert found.domains == ["example.jp", "mail.example.jp", "old.example.jp", "shop.jp"]
    assert (found.accounts.source, found.accounts.dot_qmail, found.accounts.extensions) == (["passwd"], True, ["-"])
    assert found.accounts.virtual_domains == {"mail.example.jp": "", "old.example.jp": "", "shop.jp": "alice-shop"}
    assert found.aliases == {
        "info@old.example.jp": "bob-info@example.jp",
        "sales": "alice-sales",
        "chief": "bob",
        "postmaster": ["alice@example.jp"],
        "first.last": ["alice@example.jp", "bob@elsewhere.jp"],
        "@example.jp": ["bob@example.jp"],
    }
    routes = {"partner.jp": "192.0.2.5:2525", ".intra.jp": "relay.example.jp", "free.jp": "", "": "smart.provider.jp"}
    assert found.delivery.routes == routes
    assert found.smtp.refused_senders == ["spam@bad.jp", "@worse.jp"]
    assert (found.limits.message_octets, found.limits.smtp_command_seconds) == (20_000_000, 600.0)
    assert (found.delivery.lifetime, found.delivery.connections) == (259_200.0, 40)
    assert (found.listen.pop3, found.listen.smtp) == (["0.0.0.0:110"], ["0.0.0.0:25"])


def test_every_key_stands_under_its_source(qmail: Path) -> None:
    lines = as_toml(translate(str(qmail), users())).split("\n")
    keys = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(keys) == 15 and all(lines[number - 1].startswith("# ") for number in keys)
    assert lines[lines.index('hostname = "mail.example.jp"') - 1] == "# control/me"


def test_the_files_of_an_alias_user_that_is_there_go_on_to_be_read(qmail: Path) -> None:
    state = os.stat(qmail / "alias")
    found, left = read(qmail, users(user("alias", state.st_uid, str(qmail / "alias"))))
    assert set(found.aliases) == {"info@old.example.jp", "sales", "chief"} and counting(left) == []


@pytest.mark.root
def test_the_alias_users_folder_may_be_roots_and_nobody_elses(qmail: Path) -> None:
    found = users(user("alias", 4242, str(qmail / "alias")))
    assert counting(read(qmail, found)[1]) == []
    os.chown(qmail / "alias", 4243, 4243)
    left = read(qmail, found)[1]
    assert counting(left) == [(str(qmail / "alias"), "")]
    assert any("belongs to uid 4243" in one.why for one in left)


def test_beside_the_old_servers_it_listens_where_the_howto_says(qmail: Path) -> None:
    text = as_toml(translate(str(qmail), users(), beside=True))
    found = tomllib.loads(text)
    wanted = {"pop3": ["127.0.0.1:1110"], "smtp": ["127.0.0.1:1025"], "submission": [], "pop3s": [], "submissions": []}
    assert (found["listen"], found["policy"]) == (wanted, {"plaintext": "allow"})


def test_the_grants_of_relay_ctrl_go_on_to_count(qmail: Path, tmp_path: Path) -> None:
    write(tmp_path / "relay-ctrl" / "RELAY_CTRL_DIR", "/var/spool/relay-ctrl/allow\n")
    translated = translate(str(qmail), users())
    grants(translated, str(tmp_path / "relay-ctrl"))
    relay = {"style": "classic", "directory": "/var/spool/relay-ctrl/allow"}
    assert tomllib.loads(as_toml(translated))["relay"] == relay
    write(tmp_path / "relay-ctrl" / "RELAY_CTRL_EXPIRY", "600\n")
    translated = translate(str(qmail), users())
    grants(translated, str(tmp_path / "relay-ctrl"))
    assert tomllib.loads(as_toml(translated))["relay"] == {**relay, "expiry": 600}


def test_a_host_with_nothing_but_a_name(tmp_path: Path) -> None:
    write(tmp_path / "qmail" / "control" / "me", "mail.example.jp\n")
    found, left = read(tmp_path / "qmail")
    assert (found.hostname, found.domains, found.aliases) == ("mail.example.jp", ["mail.example.jp"], {})
    assert counting(left) == [(f"{tmp_path}/qmail/alias/.qmail-postmaster", "")]
    assert any("relays for everybody" in one.why for one in left)


# What can't be carried over: file, content, what is told of it, whether it counts.
LEFT: list[tuple[str, str, list[str], bool]] = [
    ("control/me", "mail\n", ["mail"], True),
    ("control/locals", "example.jp\nbad_name.jp\n", ["bad_name.jp"], True),
    ("control/virtualdomains", ".shop.jp:alice\n", [".shop.jp:alice"], True),
    ("control/virtualdomains", "shop.jp\n", ["shop.jp"], False),
    ("control/virtualdomains", ":alice\n", [":alice"], True),
    ("control/virtualdomains", "shop.jp:alice\nfree.shop.jp:\n", ["free.shop.jp:"], True),
    ("control/virtualdomains", "shop.jp:alice\nme@other.jp:alice\n", ["me@other.jp:alice"], True),
    ("control/virtualdomains", "shop.jp:alice\nshop.jp:bob\n", ["shop.jp:bob"], True),
    ("control/virtualdomains", "shop.jp:alice\nb.jp:a b\n", ["b.jp:a b"], True),
    ("control/rcpthosts", CONTROL["rcpthosts"] + "backup.jp\n", ["backup.jp"], True),
    ("control/rcpthosts", CONTROL["rcpthosts"] + ".example.jp\n", [".example.jp"], True),
    ("control/rcpthosts", "example.jp\nshop.jp\nold.example.jp\n", ["mail.example.jp"], False),
    ("control/smtproutes", "a.jp:b c\n", ["a.jp:b c"], True),
    ("control/smtproutes", "a.jp:b.jp:99999\n", ["a.jp:b.jp:99999"], True),
    ("control/badmailfrom", "nobody\n", ["nobody"], True),
    ("control/percenthack", "example.jp\n", ["example.jp"], True),
    ("control/qmqpservers", "192.0.2.1\n", ["192.0.2.1"], True),
    ("control/defaultdelivery", "./Mailbox\n", ["./Mailbox"], True),
    ("control/spfbehavior", "3\n", [""], True),
    ("control/helohost", "other.jp\n", ["other.jp"], False),
    ("control/timeoutremote", "60\n", ["60"], False),
    ("control/doublebounceto", "root\n", ["root"], False),
    ("control/databytes", "0\n", ["0"], False),
    ("control/queuelifetime", "soon\n", ["soon"], False),
    ("rc", "qmail-start '|preline procmail' splogger qmail\n", [""], False),
    ("rc", "qmail-start ./Mailbox splogger qmail\n", ["./Mailbox"], True),
    ("users/assign", "=x:alice:1:1:/home/alice:::\n.\n", ["=x:alice:1:1:/home/alice:::"], True),
    ("users/assign", "+x-:alice:1000:1000:/home/alice:-:x-:\n.\n", ["+x-:alice:1000:1000:/home/alice:-:x-:"], True),
    ("users/assign", "=x:popuser:90:90:/home/pop/x:::\n.\n", ["=x:popuser:90:90:/home/pop/x:::"], True),
    ("users/assign", "nonsense\n.\n", ["nonsense"], True),
]


@pytest.mark.parametrize(("name", "content", "values", "counts"), LEFT)
def test_what_is_left_is_told(qmail: Path, name: str, content: str, values: list[str], counts: bool) -> None:
    """And all else is carried over."""
    write(qmail / name, content)
    found, left = read(qmail)
    told = {one.value for one in left if one.file.endswith(name) and one.counts is counts and one.why and one.do}
    assert set(values) <= told
    assert found.aliases and "example.jp" in found.domains


def test_an_mbox_or_a_program_in_the_alias_users_files_is_told(qmail: Path) -> None:
    write(qmail / "alias" / ".qmail-list", "|ezmlm-send\n")
    write(qmail / "alias" / ".qmail-root", "")
    write(qmail / "alias" / ".qmail-team-default", "alice\n")
    found, left = read(qmail)
    told = {Path(file).name for file, _ in counting(left)}
    assert told == {".qmail-list", ".qmail-list, line 1", ".qmail-root", ".qmail-team-default"}
    assert not {"list", "root", "team-default"} & set(found.aliases)


def test_an_alias_that_leads_to_root_is_told(qmail: Path) -> None:
    write(qmail / "alias" / ".qmail-postmaster", "&root\n&alice-x\n&info\n&x@elsewhere.jp\n")
    write(qmail / "alias" / ".qmail-info", "alice\n")
    _, left = read(qmail)
    assert [value for _, value in counting(left)] == ["root@example.jp"]


@pytest.mark.parametrize("missing", ["me", "all"])
def test_a_qmail_that_was_never_configured_is_refused(tmp_path: Path, missing: str) -> None:
    (tmp_path / "control").mkdir()
    if missing != "me":
        write(tmp_path / "control" / "me", "mail.example.jp\n")
        write(tmp_path / "control" / "locals", "# nothing\n")
    with pytest.raises(Refused, match=r"configured|no domain is local"):
        translate(str(tmp_path), users())


# The users' files.


def test_the_files_of_users_are_looked_at(tmp_path: Path) -> None:
    home = tmp_path / "me"
    write(home / ".qmail", "./Maildir/\n|vacation --secret\x07 me\n./Mailbox\n")
    write(home / ".qmail-list", "&a@b.test\n")
    write(home / ".qmail-list-owner", "&me\n")
    write(home / ".qmail-open", "./Maildir/\n").chmod(0o666)
    write(home / "qmail", "|no\n")
    home.chmod(0o755)
    found = _as_root(home) if os.geteuid() == 0 else obstacles(_whoever(os.geteuid(), home), "example.jp")
    assert [(Path(one.file).name, one.value) for one in found] == [
        (".qmail, line 2", "|vacation --secret? me"),
        (".qmail, line 3", "./Mailbox"),
        (".qmail-list-owner", ""),
        (".qmail-open", ""),
    ]
    assert all(one.counts and one.why and one.do for one in found)


def test_a_home_whose_mail_will_be_deferred_is_told(tmp_path: Path) -> None:
    home = tmp_path / "me"
    home.mkdir()
    home.chmod(0o775)
    found = _as_root(home) if os.geteuid() == 0 else obstacles(_whoever(os.geteuid(), home), "example.jp")
    assert [(one.file, one.counts) for one in found] == [(str(home), True)] and "others may write" in found[0].why


@pytest.mark.root
def test_whoever_is_not_root_is_told_whose_files_stay_closed(tmp_path: Path) -> None:
    home = tmp_path / "me"
    write(home / ".qmail", "|vacation\n")
    _as_root(home)
    with as_user(64_243, 64_243):
        found = obstacles(_whoever(64_242, home), "example.jp")
    assert [(one.file, one.value, one.do) for one in found] == [("home folders", "me", "import as root")]


def _whoever(uid: int, home: Path) -> Users:
    return Users({"me": user("me", uid, str(home))})


def _as_root(home: Path) -> list[Left]:
    """Given to a uid that nobody has, and read as that one: in a folder that it may pass through."""
    for path in (home, *home.iterdir()):
        os.chown(path, 64_242, 64_242)
    above = home.parent
    while above != Path("/"):
        above.chmod(above.stat().st_mode | 0o011)
        above = above.parent
    return obstacles(_whoever(64_242, home), "example.jp")


# What was compiled.


def compiled(path: Path, *records: tuple[bytes, bytes]) -> Path:
    path.write_bytes(cdb.content(records))
    return path


def test_more_domains_are_read_as_they_were_compiled(qmail: Path) -> None:
    compiled(qmail / "control" / "morercpthosts.cdb", (b"mail.example.jp", b""), (b"backup.jp", b""))
    write(qmail / "control" / "rcpthosts", "example.jp\nold.example.jp\nshop.jp\n")
    _, left = read(qmail)
    assert [(one.file, one.value) for one in left if "rcpthosts" in one.file] == [("control/rcpthosts", "backup.jp")]


def test_a_compiled_file_that_is_none_is_told(qmail: Path) -> None:
    write(qmail / "control" / "morercpthosts.cdb", "x")
    with pytest.raises(TryLater, match=r"morercpthosts\.cdb"):
        read(qmail)


@pytest.mark.parametrize("named", ["tcp.smtp", "tcp.smtp.cdb"])
def test_rules_go_on_to_be_read(qmail: Path, named: str) -> None:
    path = compiled(
        qmail / "tcp.smtp.cdb",
        (b"127.", b'+RELAYCLIENT=\0'),
        (b"192.0.2.9", b"D\0"),
        (b"198.51.100.", b"+RELAYCLIENT=@fixup\0"),
        (b"=.example.jp", b""),
        (b"", b"+RBLSMTPD=\0+DATABYTES=1\0"),
    )  # fmt: skip
    found = translate(str(qmail), users())
    before = len(found.left)
    rules(found, str(qmail / named))
    assert [(one.key, one.value) for one in found.carried if "rules" in one.key] == [("policy.rules_smtp", str(path))]
    told = [one.value for one in found.left[before:]]
    assert told == ["198.51.100.", "=.example.jp", "(all others)", "(all others)"]


def test_rules_that_are_not_there_are_told(qmail: Path) -> None:
    with pytest.raises(Refused, match="compile the rules"):
        rules(translate(str(qmail), users()), str(qmail / "away"))


# The command.


@pytest.fixture
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The users of the machine that runs the tests have no part in them."""
    found = users()
    monkeypatch.setattr(import_app, "Users", type("_", (), {"of_this_system": staticmethod(lambda: found)}))


def run(*arguments: str | Path) -> int:
    return cli.run(["import", "qmail", *map(str, arguments)])


@pytest.mark.usefixtures("nobody_else")
def test_it_is_printed_and_what_is_left_stands_beside(qmail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(qmail) == 0
    printed = capsys.readouterr()
    assert tomllib.loads(printed.out)["hostname"] == "mail.example.jp"
    assert "Not carried over, or not quite the same:" in printed.err and "it counts" not in printed.err
    write(qmail / "control" / "percenthack", "example.jp\n")
    assert run(qmail) == 1
    assert "it counts:\n  control/percenthack: example.jp\n      why: " in capsys.readouterr().err


@pytest.mark.usefixtures("nobody_else")
def test_what_is_written_passes_the_check_of_a_home(
    qmail: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.mkdir(0o711)
    written = place / "pillarbox.toml"
    assert run(qmail, "--write", written) == 0
    assert cli.run(["config", "check", "--home", str(place)]) == 0
    assert "is right" in capsys.readouterr().out
    before = written.read_bytes()
    write(qmail / "control" / "databytes", "1000\n")
    assert run(qmail, "--write", written) == 1 and written.read_bytes() == before
    assert "--force overwrites it" in capsys.readouterr().err
    assert run(qmail, "--write", written, "--force") == 0 and b"message_octets = 1000" in written.read_bytes()


def test_a_folder_that_is_no_qmail_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 1
    assert "name the one that qmail lies in" in capsys.readouterr().err


@pytest.mark.usefixtures("nobody_else")
def test_rules_are_looked_at_where_they_are_named(qmail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = compiled(qmail / "tcp.smtp.cdb", (b"127.", b"+RELAYCLIENT=\0"))
    assert run(qmail, "--tcp-rules", path) == 0
    assert tomllib.loads(capsys.readouterr().out)["policy"] == {"rules_smtp": str(path)}
