"""Configuration: what is read, and what a person is told who made a mistake."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from pillarbox import config
from pillarbox.config import Config
from pillarbox.terms import Refused

ISSUE = """
hostname = "mail.example.test"
domains  = ["Example.TEST"]
[listen]
pop3 = ["127.0.0.1:1110", "[::]:110"]
smtp = []
[accounts]
source = ["passwd", "local"]
[policy]
plaintext = "refuse"
trusted = ["192.0.2.7/24", "::1"]
[limits]
login_seconds = 3
[aliases]
"info@example.test" = "alice"
"""


def load(text: str, folder: Path) -> Config:
    path = folder / "pillarbox.toml"
    path.write_text(text, "utf-8")
    return config.load(str(path))


def test_without_a_file_the_defaults_apply(tmp_path: Path) -> None:
    assert config.load(str(tmp_path / "pillarbox.toml")) == Config()


def test_what_is_written_is_read_and_the_rest_is_default(tmp_path: Path) -> None:
    read = load(ISSUE, tmp_path)
    assert (read.hostname, read.domains) == ("mail.example.test", ["example.test"])
    assert read.listen.pop3 == ["127.0.0.1:1110", "[::]:110"] and read.listen.smtp == []
    assert read.accounts.source == ["passwd", "local"]
    assert read.policy.plaintext == "refuse"
    assert read.limits.login_seconds == 3.0 and read.limits.connections == Config().limits.connections
    assert read.aliases == {"info@example.test": "alice"}


def test_it_crosses_to_our_processes_and_back(tmp_path: Path) -> None:
    read = load(ISSUE, tmp_path)
    assert config.from_json(config.to_json(read)) == read
    with pytest.raises(Refused):
        config.from_json(b'{"hostnme": "x"}')


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    read = load(ISSUE + """'strange"name' = "bob"\n""", tmp_path)
    assert load(config.to_toml(read), tmp_path) == read
    assert load(config.to_toml(Config()), tmp_path) == Config()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # An unknown key: which, and the nearest that there is.
        ('hostnme = "x"', "`hostnme` is no key that Pillarbox knows; the nearest one is `hostname`"),
        (
            "[limits]\nconections = 3",
            "`limits.conections` is no key that Pillarbox knows; the nearest one is `limits.connections`",
        ),
        ('plaintext = "allow"', "`plaintext` is no key that Pillarbox knows; the nearest one is `policy.plaintext`"),
        ("[limit]\nconnections = 3", "`limit` is no key that Pillarbox knows; the nearest one is `limits`"),
        ("zzz = 1", "`zzz` is no key that Pillarbox knows; `pillarbox config show` prints all keys"),
        # A wrong type: which key, and what is expected.
        ('[limits]\nconnections = "many"', "`limits.connections` must be a whole number"),
        ("[limits]\nlogin_seconds = true", "`limits.login_seconds` must be a number"),
        ('domains = "example.test"', "`domains` must be a list in square brackets"),
        ("[listen]\npop3 = [1110]", "`listen.pop3[0]` must be a text in quotes"),
        ("listen = 1110", "`listen` must be a table"),
        ("[users]\nmail = 1.5", "`users.mail` must be a whole number or a text in quotes"),
        ("[aliases]\ninfo = 3", "every value of `aliases` must be a text in quotes"),
        ('[policy]\nprofile = "howto"', '`policy.profile` must be "balanced" or "strict" or "classic"'),
        ('[policy]\nprofile = "classic"\n[listen]\npop3 = ["0.0.0.0:110"]', "which the internet may reach"),
        ('[policy]\nprofile = "classic"\n[listen]\npop3 = ["[::]:110"]', "`policy.plaintext` to"),
        ('[policy]\nprofile = "classic"\n[listen]\npop3 = ["10.0.0.1:110", "9.9.9.9:110"]', "holds 9.9.9.9:110"),
        ('[policy]\nplaintext = "maybe"', '`policy.plaintext` must be "profile" or "refuse" or "trusted" or "allow"'),
        ('[accounts]\nsource = ["ldap"]', '`accounts.source[0]` must be "local" or "passwd"'),
        # A value that can't be.
        ('hostname = "mail"', "`hostname` is"),
        ('hostname = "mail.exa_mple.test"', "`hostname` holds"),
        ('hostname = "mail.example.test>"', "`hostname` holds"),
        ('hostname = "-mail.example.test"', "`hostname` holds"),
        ("domains = []", "`domains` must hold at least one domain"),
        ('domains = ["b\u00fccher.example"]', "`domains` holds"),
        ('[listen]\npop3 = ["localhost:110"]', '`listen.pop3` is wrong: "localhost:110" is no "address:port"'),
        ('[listen]\nsmtp = ["127.0.0.1:70000"]', "`listen.smtp` is wrong"),
        ('[policy]\ntrusted = ["10.0.0.0/33"]', "`policy.trusted` holds"),
        ("[limits]\nconnections = 0", "`limits.connections` must be 1 or more"),
        ("[limits]\nlogin_seconds = -1", "`limits.login_seconds` can't be below 0"),
        ("[limits]\nlogin_seconds = nan", "`limits.login_seconds` must be a finite number"),
        ("[pop3]\nwait = inf", "`pop3.wait` must be a finite number"),
        ("[accounts]\nquota = -1", "`accounts.quota` can't be below 0"),
        ("[accounts]\nsource = []", "`accounts.source` can't be empty"),
        ('[accounts]\npassword_file = "../x"', "`accounts.password_file` is"),
        ('[accounts]\npassword_file = "/etc/shadow"', "`accounts.password_file` is"),
        ('[relay]\ndirectory = "grants"', "`relay.directory` is"),
        ("[processes]\nnetwork = 5000", "`processes.network` can't be above 256"),
        ("[users]\nnetwork = 0", "`users.network` can't be root"),
        ('[users]\nmail = "root"', "`users.mail` can't be root"),
        ('[aliases]\n"a b" = "c"', "`aliases` holds"),
        # Values that don't go together.
        (
            '[listen]\npop3 = ["127.0.0.1:1110", "[::1]:25"]\nsmtp = ["[0::1]:25"]',
            "`listen.smtp` holds [0::1]:25, which `listen.pop3` holds already",
        ),
        (
            'domains = ["a.test"]\n[aliases]\n"info@b.test" = "alice"',
            '`aliases` holds "info@b.test", whose domain is not in `domains`',
        ),
        ("[forwards]\nalice = []", '`forwards` leads "alice" to nobody'),
        ('[smtp]\nrefused_senders = ["b.test"]', '`smtp.refused_senders` holds "b.test", which is neither'),
        ('[smtp]\nrefused_senders = ["a@"]', '`smtp.refused_senders` holds "a@", which is neither'),
        (
            'domains = ["a.test"]\n[accounts.virtual_domains]\n"b.test" = "alice"',
            '`accounts.virtual_domains` holds "b.test", which is not in `domains`',
        ),
        (
            'domains = ["a.test"]\n[accounts.virtual_domains]\n"a.test" = "a b"',
            '`accounts.virtual_domains` leads "a.test" to "a b", which is no beginning of a name',
        ),
        ('[accounts]\nextensions = ["--"]', '`accounts.extensions` holds "--", but each must be one of'),
        (
            '[delivery.routes]\n"b.test" = "c.test:0"',
            '`delivery.routes` holds "c.test:0", which is no host or "host:port"',
        ),
        ('[delivery]\nsmarthost = "[::z]:25"', '`delivery.smarthost` holds "[::z]:25", which is no host'),
        (
            '[delivery]\ntls_required = ["a b"]',
            '`delivery.tls_required` holds "a b", which is no domain name',
        ),
        # No TOML at all.
        ("hostname = ", "is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_its_key(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as error:
        load(text, tmp_path)
    assert error.value.why.startswith(str(tmp_path / "pillarbox.toml"))
    assert told in error.value.why
    assert "\n" not in error.value.why


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pillarbox.toml").write_bytes(b'hostname = "\xff"')
    with pytest.raises(Refused, match="not UTF-8"):
        config.load(str(tmp_path / "pillarbox.toml"))


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pillarbox.toml").mkdir()
    with pytest.raises(Refused, match="can't be read"):
        config.load(str(tmp_path / "pillarbox.toml"))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:1110", ("127.0.0.1", 1110)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::]:110", ("::", 110)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
    ],
)
def test_listening_addresses(text: str, place: tuple[str, int]) -> None:
    assert config.parse_listen(text) == place


@pytest.mark.parametrize(
    "text",
    ["", "1110", ":1110", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1110 ", "::1:110", "::",
     "[127.0.0.1]:110", "[::1]110", "127.1:110", "127.0.0.1:\u0661", "[::1%lo]:110"],
)  # fmt: skip
def test_what_is_no_listening_address(text: str) -> None:
    with pytest.raises(Refused):
        config.parse_listen(text)


def test_port_zero_may_stand_there_twice_and_an_alias_may_lead_to_a_domain_of_ours(tmp_path: Path) -> None:
    two = '"127.0.0.1:0", "127.0.0.1:0"'
    text = f'domains = ["A.test", "b.test"]\n[listen]\npop3 = [{two}]\nsmtp = [{two}]\n[aliases]\ninfo = "bob@B.TEST"'
    assert load(text, tmp_path).aliases == {"info": "bob@B.TEST"}


def test_a_login_needs_somebody_to_log_in_to(tmp_path: Path) -> None:
    login = '[delivery]\nsmarthost_user = "us"\nsmarthost_secret_file = "/secret"\n'
    with pytest.raises(Refused, match=r"pillarbox\.toml: `delivery\.smarthost_user` is set, and `delivery\.smarthost`"):
        load(login, tmp_path)
    assert load(f'{login}smarthost = "mail.x.test:587"', tmp_path).delivery.smarthost_user == "us"


def test_what_a_running_server_can_not_take_up() -> None:
    def read(text: str) -> Config:
        return msgspec.convert(tomllib.loads(text), Config)

    before = read("")
    assert config.needs_restart(before, read('hostname = "a.test"\n[processes]\ngrace = 1.0')) == []
    after = read("[processes]\nnetwork = 7\nworkers = 3\n[users]\nmail = 3")
    assert config.needs_restart(before, after) == ["processes.network", "processes.workers", "users.mail"]


def test_a_second_reading_of_every_default_passes_the_checks(tmp_path: Path) -> None:
    """No default may be a value that we would refuse."""
    text = config.to_toml(Config())
    assert set(tomllib.loads(text)) == set(Config.__struct_fields__)
    assert load(text, tmp_path) == Config()


def test_keys_name_every_leaf_once() -> None:
    names = [name for name, _ in config.keys(Config())]
    assert len(names) == len(set(names))
    assert {"hostname", "aliases", "listen.pop3", "limits.minimum_rate"} <= set(names)
    assert dict(config.keys(Config(hostname="a.b")))["hostname"] == "a.b"
