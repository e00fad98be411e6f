"""`pillarbox dns`: read by another's parser of zone files, and served by a name server to its own check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import dns.zone
import pytest

from pillarbox.commands import dns_app, doctor_names
from pillarbox.home import Home

from ..command_line import say
from ..peers.dns import Fault, NameServer, name_server

CONFIG = """
hostname = "mail.example.test"
domains = ["example.test", "other.test"]
[listen]
pop3 = ["0.0.0.0:110"]
smtp = ["0.0.0.0:25"]
submission = ["127.0.0.1:1587"]
pop3s = ["[::]:995"]
submissions = ["0.0.0.0:4650"]
[delivery]
resolvers = ["{resolver}"]
"""
ADDRESS = "192.0.2.25"
REVERSE = "25.2.0.192.in-addr.arpa"


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as made:
        yield made


@pytest.fixture
def home(place: Path, names: NameServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """With signing keys of example.test, and an address that this machine does not know of."""
    for module in (dns_app, doctor_names):
        monkeypatch.setattr(module, "outward", list)
    home = Home(str(place))
    home.make()
    Path(home.config).write_text(CONFIG.format(resolver=names.address))
    assert say(capsys, "dkim", "add", "--home", home.folder).status == 0
    return home


def publish(names: NameServer, text: str) -> None:
    """A zone file's records; another's parser reads it."""
    zone = dns.zone.from_text(text, origin=".", relativize=False, check_origin=False)
    for name, node in zone.nodes.items():
        for rdataset in node.rdatasets:
            kind = rdataset.rdtype.name
            names.add(name.to_text(omit_final_dot=True), kind, *(one.to_text() for one in rdataset))


def publish_all(home: Home, names: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    lines = say(capsys, "dns", "--home", home.folder).out.splitlines()
    publish(names, "\n".join(f"{line}" for line in lines if not line.startswith(";")).replace(". IN ", ". 300 IN "))
    names.a("mail.example.test", ADDRESS)
    names.add(REVERSE, "PTR", "mail.example.test.")


def about(home: Home, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[str]]:
    """What the check says, by its level."""
    said = say(capsys, "dns", *words, "--check", "--json", "--home", home.folder)
    shown = json.loads(said.out)
    assert said.status == (1 if shown["serious"] else 0)
    found: dict[str, list[str]] = {"serious": [], "advice": [], "fine": []}
    for one in shown["findings"]:
        found[one["level"]].append(one["what"])
    return found


def test_the_records_are_lines_of_a_zone_file(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "dns", "example.test", "--home", home.folder)
    assert said.status == 0 and said.err == ""
    lines = [line for line in said.out.splitlines() if not line.startswith(";")]
    plain = [line for line in lines if "_domainkey" not in line]
    assert plain == [
        'mail.example.test. IN TXT "v=spf1 a -all"',
        "example.test. IN MX 10 mail.example.test.",
        'example.test. IN TXT "v=spf1 mx -all"',
        '_dmarc.example.test. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@example.test"',
        "_pop3s._tcp.example.test. IN SRV 0 1 995 mail.example.test.",
        "_pop3._tcp.example.test. IN SRV 10 1 110 mail.example.test.",
        "_submissions._tcp.example.test. IN SRV 0 1 4650 mail.example.test.",
        "_submission._tcp.example.test. IN SRV 0 0 0 .",
        "_imaps._tcp.example.test. IN SRV 0 0 0 .",
        "_imap._tcp.example.test. IN SRV 0 0 0 .",
        "autoconfig.example.test. IN CNAME mail.example.test.",
    ]
    shown = say(capsys, "dkim", "show", "example.test", "--home", home.folder).out.splitlines()
    assert [line for line in lines if "_domainkey" in line] == [line for line in shown if " IN TXT " in line]


def test_as_json(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    records = json.loads(say(capsys, "dns", "other.test", "--json", "--home", home.folder).out)["records"]
    assert {"name": "other.test", "kind": "MX", "text": "10 mail.example.test."}.items() <= records[1].items()


def test_a_smarthost_sends_for_us(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with open(home.config, "a") as file:
        file.write('smarthost = "smtp.provider.test"\n')
    assert 'example.test. IN TXT "v=spf1 mx ~all"' in say(capsys, "dns", "--home", home.folder).out


def test_addresses_that_are_known_are_printed_with_their_pointers(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dns_app, "outward", lambda: ["2001:db8::25", ADDRESS])
    lines = say(capsys, "dns", "--home", home.folder).out.splitlines()
    assert f"mail.example.test. IN A {ADDRESS}" in lines and "mail.example.test. IN AAAA 2001:db8::25" in lines
    assert f"; {REVERSE}. IN PTR mail.example.test." in lines


def test_a_server_on_loopback_alone_says_so(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.config).write_text('hostname = "mail.example.test"\ndomains = ["example.test"]\n')
    said = say(capsys, "dns", "--home", home.folder)
    assert "loopback alone" in said.err and "_pop3s._tcp.example.test. IN SRV 0 1 995 mail.example.test." in said.out


def test_what_is_published_as_printed_is_right(
    home: Home, names: NameServer, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_all(home, names, capsys)
    found = about(home, capsys)
    assert found["serious"] == []
    assert found["advice"] == ["mail of other.test goes out unsigned"]
    assert "mail for example.test comes here, by mail.example.test" in found["fine"]
    assert f"{ADDRESS} is called mail.example.test" in found["fine"]
    assert f"SPF of other.test knows {ADDRESS}" in found["fine"]


@pytest.mark.parametrize(
    ("name", "kind", "data", "level", "words"),
    [
        (
            "example.test",
            "MX",
            ["10 mx.elsewhere.test."],
            "serious",
            "goes to mx.elsewhere.test, none of which is this",
        ),
        ("example.test", "MX", ["0 ."], "serious", "example.test has no MX record that names a host"),
        ("example.test", "TXT", ['"v=spf1 ip4:192.0.2.26 -all"'], "serious", f"says fail of our address {ADDRESS}"),
        ("example.test", "TXT", ['"v=spf1 a"', '"v=spf1 mx"'], "serious", "has 2 SPF records"),
        ("example.test", "TXT", ['"unrelated"'], "serious", "example.test has no SPF record"),
        ("example.test", "TXT", ['"v=spf1 exists:%{i}.x.test -all"'], "advice", "has macros"),
        ("mail.example.test", "A", ["192.0.2.99"], "serious", "192.0.2.99 is called nothing, not mail.example.test"),
        (REVERSE, "PTR", ["host-25.provider.test."], "serious", "is called host-25.provider.test, not mail.example"),
        ("_dmarc.example.test", "TXT", ['"v=spf1"'], "advice", "example.test has no DMARC policy"),
        ("_pop3s._tcp.example.test", "SRV", ["0 1 993 mail.example.test."], "advice", "_pop3s._tcp.example.test is 0"),
        ("_imap._tcp.example.test", "SRV", ["0 1 143 mail.example.test."], "advice", "_imap._tcp.example.test is 0 1"),
    ],
)
def test_what_is_published_otherwise_is_told(
    name: str,
    kind: str,
    data: list[str],
    level: str,
    words: str,
    home: Home,
    names: NameServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish_all(home, names, capsys)
    names.add(name, kind, *data)
    assert [what for what in about(home, capsys, "example.test")[level] if words in what]


def test_an_exchanger_of_another_name_is_us_by_its_address(
    home: Home, names: NameServer, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_all(home, names, capsys)
    names.exchanger("example.test", ADDRESS)
    assert "mail for example.test comes here, by mx.example.test" in about(home, capsys)["fine"]


def test_a_signing_key_must_be_the_one_that_signs(
    home: Home, names: NameServer, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_all(home, names, capsys)
    (elliptic, rsa) = sorted(name for name, kind in names._records if "_domainkey" in name and kind == "TXT")
    names.add(elliptic, "TXT", '"v=DKIM1; k=ed25519; p=" "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="')
    names.remove(rsa)
    serious = about(home, capsys)["serious"]
    assert serious == [f"{elliptic} holds another key than ours", f"{rsa} is not published"]


def test_an_address_of_a_family_on_which_nobody_listens(
    home: Home, names: NameServer, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_all(home, names, capsys)
    assert not any("listen.smtp" in what for what in about(home, capsys)["advice"])
    names.aaaa("mail.example.test", "2001:db8::25")
    what = "mail.example.test has an AAAA record, and `listen.smtp` has no IPv6 address"
    assert what in about(home, capsys)["advice"]


def test_a_host_without_an_address(home: Home, names: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    publish_all(home, names, capsys)
    names.remove("mail.example.test")
    assert "mail.example.test has no address" in about(home, capsys)["serious"]


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED])
def test_what_can_not_be_looked_up_is_no_crash(
    fault: Fault, home: Home, names: NameServer, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_all(home, names, capsys)
    names.fail("example.test", fault, "MX")
    found = about(home, capsys, "example.test")
    assert any("MX of example.test could not be looked up" in what for what in found["advice"])
    assert f"{ADDRESS} is called mail.example.test" in found["fine"]


def test_the_doctor_asks_the_same_and_only_advises_where_no_other_machine_comes_in(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    public = Path(home.config).read_text()
    for text, level in ((public, "serious"), (public.replace("0.0.0.0:25", "127.0.0.1:1025"), "advice")):
        Path(home.config).write_text(text)
        said = say(capsys, "doctor", "--json", "--home", home.folder)
        shown = [one for one in json.loads(said.out)["findings"] if one["about"] == "DNS"]
        assert (level, "mail.example.test has no address") in [(one["level"], one["what"]) for one in shown]
        assert any(one["what"].startswith("example.test has no MX record") for one in shown)
        assert not any(one["what"].startswith("_pop3s._tcp") for one in shown)


def test_offline_it_asks_a_few_times_and_no_more(
    home: Home, names: NameServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pillarbox.commands.lookups.LOOKUP_SECONDS", 0.3)
    monkeypatch.setattr("pillarbox.commands.lookups.ANSWER_SECONDS", 0.1)
    publish_all(home, names, capsys)
    for name in ("example.test", "_dmarc.example.test", "_dmarc.other.test", "other.test"):
        names.fail(name, Fault.SILENT)
    found = about(home, capsys)
    assert len([what for what in found["advice"] if "could not be looked up" in what]) == 3
    assert names.count("other.test", "MX") == 0 and found["serious"] == []


def test_a_resolver_configuration_that_is_not_there(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import dns.resolver

    def none(self: object, filename: str = "") -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.Resolver, "read_resolv_conf", none)
    Path(home.config).write_text('hostname = "mail.example.test"\ndomains = ["example.test"]\n')
    assert any("NoResolverConfiguration" in what for what in about(home, capsys)["advice"])


def test_a_domain_of_somebody_else_is_refused(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "dns", "example.net", "--home", home.folder)
    assert said.status == 1 and "example.net is no domain of ours" in said.err
    assert say(capsys, "dns", "--check", "--autoconfig", "--home", home.folder).status == 2


# Thunderbird's file.


def test_the_settings_file_has_what_its_format_asks_for(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """https://wiki.mozilla.org/Thunderbird:Autoconfiguration:ConfigFileFormat"""
    said = say(capsys, "dns", "--autoconfig", "--home", home.folder)
    root = ElementTree.fromstring(said.out)
    assert (root.tag, root.attrib) == ("clientConfig", {"version": "1.1"})
    provider = root[0]
    assert provider.attrib == {"id": "example.test"}
    assert [one.text for one in provider.iter("domain")] == ["example.test", "other.test"]
    servers = [
        (one.tag, one.get("type"), one.findtext("hostname"), one.findtext("port"), one.findtext("socketType"))
        for one in provider
        if one.tag.endswith("Server")
    ]
    assert servers == [
        ("incomingServer", "pop3", "mail.example.test", "995", "SSL"),
        ("incomingServer", "pop3", "mail.example.test", "110", "STARTTLS"),
        ("outgoingServer", "smtp", "mail.example.test", "4650", "SSL"),
    ]
    assert {one.text for one in provider.iter("username")} == {"%EMAILADDRESS%"}
    assert {one.text for one in provider.iter("authentication")} == {"password-cleartext", "password-encrypted"}
