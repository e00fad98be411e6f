"""`pillarbox doctor`: each finding provoked, and absent where nothing is wrong."""

from __future__ import annotations

import datetime
import json
import os
import stat
from pathlib import Path

import pytest

from pillarbox import administration, config
from pillarbox.broker.standing import Standing, Standings
from pillarbox.commands import doctor_files, doctor_machine, doctor_secrets, doctor_service, doctor_tls
from pillarbox.commands.findings import Finding
from pillarbox.home import Home
from pillarbox.policy.tcprules import records, trimmed
from pillarbox.store import cdb
from pillarbox.store.certificates import make_own
from pillarbox.store.queue import DiskQueue
from pillarbox.terms import Envelope
from pillarbox.testing import server

from ..command_line import SECRET, say
from ..peers.certificates import Authority
from ..peers.ports import free_port
from ..system_users import system_user

PUBLIC = '[listen]\npop3 = ["0.0.0.0:110"]\n'


@pytest.fixture
def home(place: Path) -> Home:
    """A home with the account alice, as it is before the first start."""
    home = Home(str(place))
    administration.add(home, "alice", SECRET.encode())
    Path(home.config).write_text("")
    return home


def found(home: Home, about: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Level and words of all findings of one subject."""
    said = say(capsys, "doctor", "--offline", "--json", "--home", home.folder)
    shown = json.loads(said.out)
    assert said.status == (1 if shown["serious"] else 0)
    assert SECRET not in said.out + said.err
    return [(one["level"], one["what"]) for one in shown["findings"] if one["about"] == about]


def levels(home: Home, about: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    return {level for level, _ in found(home, about, capsys)}


# The command.


def test_a_new_home_is_fine(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    for about in ("files", "accounts", "certificates", "relaying", "passwords", "queue", "log"):
        assert levels(home, about, capsys) == {"fine"}, about
    assert found(home, "ports", capsys) == [("advice", "no server runs on this home")]
    assert found(home, "configuration", capsys) == found(home, "DNS", capsys) == []


def test_the_table_has_the_worst_first(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    os.chmod(home.key, 0o644)
    said = say(capsys, "doctor", "--offline", "--home", home.folder)
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert said.status == 1 and rows[0][:2] == ["serious", "files"]
    assert rows[0][3] == f"chmod go= {home.key}" and {len(row) for row in rows} == {4}
    order = [row[0] for row in rows]
    assert order == sorted(order, key=["serious", "advice", "fine"].index)
    assert "1 serious" in said.err


def test_nothing_is_changed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    def state() -> dict[str, tuple[int, int]]:
        paths = [path for path in Path(home.folder).rglob("*") if not path.name.endswith(("-shm", "-wal"))]
        return {str(path): (path.stat().st_mode, path.stat().st_mtime_ns) for path in paths}

    before = state()
    say(capsys, "doctor", "--offline", "--home", home.folder)
    assert state() == before


def test_where_no_home_is_there_is_nothing_to_examine(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "doctor", "--home", place).status == 1
    assert not place.exists()


def test_what_config_check_warns_of_is_told(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.config).write_text('[aliases]\ninfo = "nosuch"\n')
    ((level, what),) = found(home, "configuration", capsys)
    assert level == "advice" and '"nosuch"' in what


def test_a_check_that_can_not_be_done_keeps_no_other_from_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    os.unlink(home.key)
    ((level, what),) = found(home, "accounts", capsys)
    assert level == "advice" and what.startswith("could not be looked at: ") and home.key in what
    assert levels(home, "disk", capsys) <= {"fine", "advice"}


# Files.


@pytest.mark.parametrize(
    ("name", "mode", "remedy"),
    [
        ("secret.key", 0o640, "go="),
        ("accounts.sqlite3", 0o604, "go="),
        ("pillarbox.toml", 0o664, "go-w"),
        ("", 0o777, "go-w"),
    ],
)
def test_a_mode_that_lets_others_in(
    name: str, mode: int, remedy: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = os.path.join(home.folder, name) if name else home.folder
    os.chmod(path, mode)
    assert ("serious", f"{path} has mode {mode:04o}") in found(home, "files", capsys)
    shown = json.loads(say(capsys, "doctor", "--offline", "--json", "--home", home.folder).out)["findings"]
    assert f"chmod {remedy} {path}" in [one["remedy"] for one in shown]


def test_every_folder_that_a_server_makes_is_kept_well_and_looked_at() -> None:
    with server(accounts={"alice": SECRET}) as mail:
        home = Home(str(mail.home))
        settings = config.load(home.config)
        assert [one.level for one in doctor_files.check_files(home, settings)] == ["fine"]
        for path in (home.queue, home.mail, home.grants, home.run, home.tls, home.dkim, f"{home.tls}/key.pem"):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            os.chmod(path, mode | 0o004)
            assert [one.level for one in doctor_files.check_files(home, settings)] == ["serious"], path
            os.chmod(path, mode)


def test_files_of_the_configuration(home: Home, open_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret, key, folder = open_folder / "smarthost", open_folder / "tls.key", open_folder / "relay"
    folder.mkdir()
    for path in (secret, key):
        path.write_text("x")
    text = (
        f'[tls]\ncertificate = "/nowhere.pem"\nkey = "{key}"\n[delivery]\nsmarthost = "x.test"\n'
        f'smarthost_user = "me"\nsmarthost_secret_file = "{secret}"\n[relay]\ndirectory = "{folder}"\n'
    )
    open_folder.chmod(0o711)
    for path, good, bad in ((secret, 0o640, 0o644), (key, 0o640, 0o644), (folder, 0o755, 0o777)):
        Path(home.config).write_text(f'{text}style = "classic"\n')
        path.chmod(good)
        assert str(path) not in str(found(home, "files", capsys))
        path.chmod(bad)
        assert ("serious", f"{path} has mode {bad:04o}") in found(home, "files", capsys)
    Path(home.config).write_text(text)  # a grant of the bound style is sealed: writing there helps nobody
    assert str(folder) not in str(found(home, "files", capsys))
    behind = open_folder / "closed"
    behind.mkdir(mode=0o700)
    folder.rename(behind / "relay")
    Path(home.config).write_text(text.replace(str(folder), f"{behind}/relay") + 'style = "classic"\n')
    assert f"{behind}/relay" not in str(found(home, "files", capsys))


def test_a_folder_above_that_others_may_change(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    above = os.path.dirname(home.folder)
    os.chmod(above, 0o777)
    assert ("serious", f"{above} has mode 0777") in found(home, "files", capsys)
    os.chmod(above, 0o1777)
    assert levels(home, "files", capsys) == {"fine"}


@pytest.mark.root
def test_a_foreign_owner(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(home.accounts, 54321, -1)
    assert ("serious", f"{home.accounts} belongs to uid 54321, not to 0") in found(home, "files", capsys)


def test_a_signing_key_that_is_not_used(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "dkim", "add", "--selector", "x", "--type", "ed25519", "--home", home.folder).status == 0
    assert levels(home, "files", capsys) == {"fine"}
    key = Path(home.dkim, "localhost.localdomain", "x.pem")
    key.chmod(0o644)
    assert ("serious", True) in [(level, str(key) in what) for level, what in found(home, "files", capsys)]


# Secrets.


def test_accounts_that_nobody_can_use(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with administration.opened(home) as (_, store):
        store._database.execute("UPDATE account SET secret = NULL")
    assert found(home, "accounts", capsys) == [("serious", "alice@localhost.localdomain has no secret")]
    with administration.opened(home) as (_, store):
        store._database.execute("UPDATE account SET secret = ?", b"damaged")
    ((level, what),) = found(home, "accounts", capsys)
    assert level == "serious" and "set a new" in what


def test_a_password_that_is_hashed_is_no_missing_secret(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with administration.opened(home) as (_, store):
        store.set_password("alice@localhost.localdomain", "$argon2id$")
    assert levels(home, "accounts", capsys) == {"fine"}


def test_accounts_of_a_domain_that_is_ours_no_more(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.config).write_text('domains = ["example.test"]\n')
    assert levels(home, "accounts", capsys) == {"advice"}


@pytest.mark.parametrize(
    ("octets", "level"), [(1, "serious"), (7, "serious"), (8, "advice"), (19, "advice"), (20, "fine")]
)
def test_the_length_of_a_secret(octets: int, level: str) -> None:
    assert doctor_secrets.strength("/x", octets, "").level == level


@pytest.mark.root
def test_the_password_files_of_system_users(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    def mine() -> list[str]:
        return [level for level, what in found(home, "secrets", capsys) if user.pw_dir in what]

    with system_user(f"pbdoctor{os.getpid()}") as user:
        assert mine() == []  # there is no file
        file = Path(user.pw_dir, "Maildir", ".password")
        file.parent.mkdir()
        os.chown(file.parent, user.pw_uid, user.pw_gid)
        for content, mode, uid, levels in (
            ("long enough to be a secret\n", 0o600, user.pw_uid, []),
            ("long enough to be a secret\n", 0o644, user.pw_uid, ["serious"]),
            ("long enough to be a secret\n", 0o600, 0, ["serious"]),
            ("", 0o600, user.pw_uid, ["serious"]),
            ("\n", 0o600, user.pw_uid, ["serious"]),
            ("short\n", 0o600, user.pw_uid, ["serious"]),
            ("middling one\n", 0o600, user.pw_uid, ["advice"]),
        ):
            file.write_text(content)
            file.chmod(mode)
            os.chown(file, uid, user.pw_gid)
            assert mine() == levels, (content, mode, uid)
            assert content.strip("\n") == "" or content.strip("\n") not in str(found(home, "secrets", capsys))
        file.unlink()
        file.symlink_to("/etc/shadow")
        assert mine() == ["serious"]


# Certificates.


@pytest.mark.parametrize(
    ("days", "level"), [(-1, "serious"), (6, "serious"), (8, "advice"), (29, "advice"), (31, "fine")]
)
def test_the_days_that_a_certificate_has(days: int, level: str) -> None:
    now = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
    assert doctor_tls.expiry("/x.pem", now + datetime.timedelta(days=days), now).level == level


@pytest.mark.parametrize(
    ("names", "others", "level"),
    [
        (["mail.example.test"], True, "fine"),
        (["other.test", "MAIL.example.test"], True, "fine"),
        (["*.example.test"], True, "fine"),
        (["*.test"], True, "serious"),
        (["example.test"], True, "serious"),
        ([], True, "serious"),
        (["example.test"], False, "advice"),
    ],
)
def test_the_names_of_certificates(names: list[str], others: bool, level: str) -> None:
    assert doctor_tls.name_match("mail.example.test", names, others=others).level == level


def test_certificates_as_they_lie_there(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    for issued, expected in (
        (authority.issue("mail.example.test"), {"fine", "advice"}),  # its thirty days are just over when it is read
        (authority.issue("mail.example.test", expired=True), {"serious"}),
        (authority.issue("elsewhere.test"), {"advice", "serious"}),
    ):
        Path(home.config).write_text(
            f'hostname = "mail.example.test"\n{PUBLIC}[tls]\ncertificate = "{issued.certificate}"\nkey = "{issued.key}"\n'
        )
        assert levels(home, "certificates", capsys) == expected


def test_a_certificate_of_our_own_is_no_good_for_the_world(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.tls).mkdir(0o700)
    make_own(home.tls, "localhost.localdomain")
    assert levels(home, "certificates", capsys) == {"fine"}
    Path(home.config).write_text(PUBLIC)
    assert levels(home, "certificates", capsys) == {"fine", "advice"}


# Relaying, and passwords in the clear.


def rules(folder: Path, *lines: str) -> str:
    path = folder / "tcp.smtp.cdb"
    path.write_bytes(cdb.content([pair for line in lines for pair in records(trimmed(line.encode()))]))
    return str(path)


@pytest.mark.parametrize(
    ("lines", "serious"),
    [
        (["127.:allow,RELAYCLIENT=\"\"", ":allow"], False),
        (["10.:allow,RELAYCLIENT=\"\"", "192.0.2.7:allow,RELAYCLIENT=\"\"", ":deny"], False),
        ([":allow,RELAYCLIENT=\"\""], True),
        (["192.0.2.1:allow,RELAYCLIENT=\"\""], True),
        (["85.:allow,RELAYCLIENT=\"\"", ":allow"], True),
        (["2001::allow,RELAYCLIENT=\"\"", ":allow"], True),
        (['fd12::allow,RELAYCLIENT=""', '2001:db8::allow,RELAYCLIENT=""', ":allow"], True),
        (['fd12::allow,RELAYCLIENT=""', '2001:dba::allow,RELAYCLIENT=""', ":allow"], False),
        (["85.:deny,RELAYCLIENT=\"\"", ":allow"], False),
        ([":allow,RELAYCLIENT=\"@relay\""], False),
    ],
)  # fmt: skip
def test_rules_that_open_the_relay(
    lines: list[str], serious: bool, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(home.config).write_text(f'[policy]\nrules_smtp = "{rules(tmp_path, *lines)}"\n')
    assert ("serious" in levels(home, "relaying", capsys)) is serious


def test_a_grant_that_anybody_could_have_left(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """relay-ctrl's file, in the classic style: it is the standing that is asked, not the configuration alone."""
    Path(home.config).write_text('[relay]\nstyle = "classic"\n')
    assert levels(home, "relaying", capsys) == {"fine"}
    Path(home.grants).mkdir(0o700)
    Path(home.grants, "192.0.2.1").touch()
    ((level, what),) = found(home, "relaying", capsys)
    assert level == "serious" and what.startswith("a stranger at 192.0.2.1 may send")


def test_grants_that_can_not_be_read_are_no_good_news(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Standings, "of", lambda *_, **__: Standing("unknown"))
    assert found(home, "relaying", capsys) == [
        ("advice", f"could not be looked at: the grants in {home.grants} can't be read")
    ]


@pytest.mark.parametrize(
    ("policy", "listen", "level"),
    [
        ('plaintext = "trusted"', PUBLIC, "fine"),
        ('plaintext = "refuse"', PUBLIC, "fine"),
        ('profile = "classic"', "", "advice"),
        ('profile = "classic"\nplaintext = "trusted"', PUBLIC, "fine"),
        ('profile = "strict"', PUBLIC, "fine"),
        ('plaintext = "allow"', PUBLIC, "serious"),
        ('plaintext = "allow"', "", "advice"),
        ('trusted = ["0.0.0.0/0"]', PUBLIC, "serious"),
        ('trusted = ["0.0.0.0/0"]\nplaintext = "refuse"', PUBLIC, "fine"),
    ],
)
def test_passwords_in_the_clear(
    policy: str, listen: str, level: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(home.config).write_text(f"{listen}[policy]\n{policy}\n")
    assert levels(home, "passwords", capsys) == {level}


# The machine.

NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("installed", "synchronised", "board", "level"),
    [
        (NOW - 1, True, NOW, "fine"),
        (NOW - 1, True, None, "fine"),
        (NOW - 1, None, NOW - 59, "fine"),
        (NOW - 1, True, NOW + 9 * 3600, "fine"),  # Tokyo's local time
        (NOW - 1, False, NOW, "advice"),
        (NOW - 1, True, NOW + 300, "advice"),
        (NOW - 1, True, NOW + 86400, "advice"),
        (NOW + 86400, True, NOW, "serious"),
    ],
)
def test_the_clock(installed: float, synchronised: bool | None, board: float | None, level: str) -> None:
    assert doctor_machine.clock(NOW, installed, synchronised=synchronised, board=board).level == level


def disk(free: int, inodes: int | None = 10**6, flags: int = 0) -> Finding:
    """Of a disk with so many octets and inodes free."""
    some = 0 if inodes is None else 10**7
    numbers = (4096, 1024, 10**9, free // 1024, free // 1024, some, inodes or 0, inodes or 0, flags, 255)
    return doctor_machine.disk("/x", os.statvfs_result(numbers), 50 << 20)


def test_the_disk() -> None:
    assert disk(2 << 30).level == disk(2 << 30, None).level == "fine"
    assert disk(1 << 29).level == disk(2 << 30, 10_000).level == "advice"
    assert disk(99 << 20).level == disk(2 << 30, 999).level == disk(2 << 30, flags=os.ST_RDONLY).level == "serious"


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 11, 4), "advice"), ((3, 11, 5), "fine"), ((3, 12, 0), "fine"), ((3, 14, 1), "fine")],
)
def test_python(version: tuple[int, int, int], level: str) -> None:
    """https://www.cve.org/CVERecord?id=CVE-2023-40217: before 3.11.5; 3.12.0 was released later."""
    assert doctor_machine.python(version).level == level


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ((3, 0, 0, 2, 0), "serious"),
        ((3, 0, 0, 6, 0), "serious"),
        ((3, 0, 0, 7, 0), "fine"),
        ((3, 5, 0, 1, 0), "fine"),
        ((1, 1, 1, 23, 15), "advice"),
    ],
)
def test_openssl(version: tuple[int, int, int, int, int], level: str) -> None:
    """https://openssl-library.org/news/secadv/20221101.txt: 3.0.0 to 3.0.6."""
    assert doctor_machine.openssl(version, "OpenSSL").level == level


# The server at work.


def test_ports_of_a_server_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with server(accounts={"alice": SECRET}) as mail:
        home = Home(str(mail.home))
        shown = found(home, "ports", capsys)
        assert [level for level, _ in shown] == ["fine"] * 5
        assert ("fine", f"pop3 answers at {mail.host}:{mail.pop3_port}") in shown
        assert levels(home, "queue", capsys) == {"fine"}
        assert "end=reset" not in mail.log()


def test_a_port_where_nobody_answers() -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    trouble = doctor_service._trouble("pop3", address)
    assert "refused" in trouble
    assert doctor_service.port("pop3", address, trouble).level == "serious"


def test_a_port_that_greets_as_another(capsys: pytest.CaptureFixture[str]) -> None:
    with server(accounts={"alice": SECRET}) as mail:
        assert "greet" in doctor_service._trouble("pop3", f"{mail.host}:{mail.smtp_port}")
        assert doctor_service._trouble("smtp", f"{mail.host}:{mail.smtp_port}") == ""


def test_mail_that_is_stuck(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    queue = DiskQueue(home.queue)
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.commit(identity, Envelope(b"alice@example.test", (b"bob@elsewhere.test",)))
    assert found(home, "queue", capsys) == [("fine", "1 messages wait")]
    now = doctor_service.time.time() + 3 * 86400
    monkeypatch.setattr(doctor_service.time, "time", lambda: now)
    assert found(home, "queue", capsys) == [("advice", "1 messages wait, the oldest for 3 d")]


def test_a_damaged_queue(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    DiskQueue(home.queue)
    Path(home.queue, "envelope", "1.x").write_bytes(b"{")
    assert "serious" in levels(home, "queue", capsys)
    os.rename(f"{home.queue}/envelope/1.x", f"{home.queue}/damaged/1.x")
    assert ("serious", f"1 files were damaged, and lie in {home.queue}/damaged") in found(home, "queue", capsys)


@pytest.mark.parametrize(
    ("to", "syslog", "standard_error", "level"),
    [
        ("syslog", True, "", "fine"),
        ("syslog", False, "", "serious"),
        ("stderr", False, "/var/log/pillarbox", "fine"),
        ("stderr", False, "", "fine"),
        ("stderr", True, "/dev/null", "serious"),
    ],
)
def test_the_log(to: str, syslog: bool, standard_error: str, level: str) -> None:
    assert doctor_service.log(to, syslog=syslog, standard_error=standard_error).level == level
