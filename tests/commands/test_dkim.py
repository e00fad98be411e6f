"""The commands `pillarbox dkim`."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import pytest

from pillarbox import config
from pillarbox.broker.privilege import as_user
from pillarbox.commands.dkim import app
from pillarbox.delivery.signing import Signer
from pillarbox.home import Home, Identities
from pillarbox.store import dkim_keys
from pillarbox.terms import Misuse, Refused

CONFIG = 'hostname = "mail.example.org"\ndomains = ["example.org", "sub.example.test"]\n'
MESSAGE = b"From: alice@example.org\n\nbody\n"


@pytest.fixture
def home(place: Path) -> Home:
    home = Home(str(place))
    home.make()
    Path(home.config).write_text(CONFIG)
    return home


def run(home: Home, *words: str) -> None:
    app([*words, "--home", home.folder], exit_on_error=False, print_error=False, result_action="return_value")


def selectors(home: Home) -> list[str]:
    return [selector for domain in dkim_keys.domains(home.dkim) for selector in dkim_keys.selectors(home.dkim, domain)]


def test_keys_are_made_for_our_first_domain_and_their_records_shown(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    run(home, "add")
    said = capsys.readouterr()
    elliptic, rsa = selectors(home)
    assert re.fullmatch(r"s20[0-9]{4}-ed", elliptic) and rsa == elliptic.removesuffix("ed") + "rsa"
    assert f"  name   {rsa}._domainkey.example.org\n  type   TXT\n  value  v=DKIM1; k=rsa; p=MIIB" in said.out
    assert "  value  v=DKIM1; k=ed25519; p=" in said.out
    zone = [line for line in said.out.split("\n") if " IN TXT " in line]
    assert len(zone) == 2 and all(len(string) <= 255 for line in zone for string in re.findall('"([^"]*)"', line))
    assert "PRIVATE" not in said.out + said.err and "Publish" in said.err
    run(home, "show")
    assert capsys.readouterr().out == said.out


def test_who_signs_can_read_the_keys_at_once(home: Home) -> None:
    run(home, "add")
    uid, gid = Identities.of(config.load(home.config)).queue
    with contextlib.nullcontext() if uid is None or gid is None else as_user(uid, gid):
        assert Signer(home.dkim).sign(MESSAGE).count(b"DKIM-Signature") == 2
        for folder, _, names in os.walk(home.dkim):
            assert {os.stat(f"{folder}/{name}").st_uid for name in (".", *names)} == {os.geteuid()}


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["--selector", "Mail", "--type", "rsa"], ["mail"]),
        (["--selector", "mail", "--type", "ed25519"], ["mail"]),
        (["--selector", "mail"], ["mail-ed", "mail-rsa"]),
        (["example.test", "--selector", "a.b"], ["a.b-ed", "a.b-rsa"]),
    ],
)
def test_selectors_and_types_can_be_chosen(words: list[str], made: list[str], home: Home) -> None:
    run(home, "add", *words)
    assert selectors(home) == made


def test_no_key_is_replaced_and_of_two_not_one_is_made(home: Home) -> None:
    run(home, "add", "--selector", "one-rsa", "--type", "rsa")
    with pytest.raises(Refused, match=r"key one-rsa of example\.org already"):
        run(home, "add", "--selector", "one")
    assert selectors(home) == ["one-rsa"]


def test_no_more_keys_are_made_than_are_used(home: Home) -> None:
    run(home, "add", "--selector", "one")
    run(home, "add", "--selector", "two")
    with pytest.raises(Refused, match="more than 4"):
        run(home, "add", "--selector", "three", "--type", "ed25519")
    assert len(selectors(home)) == 4


def test_keys_are_listed_shown_and_removed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    run(home, "add", "--selector", "one")
    run(home, "add", "sub.example.test", "--selector", "two", "--type", "ed25519")
    capsys.readouterr()
    run(home, "list")
    assert capsys.readouterr().out == (
        "example.org\tone-ed\ted25519\nexample.org\tone-rsa\trsa\nsub.example.test\ttwo\ted25519\n"
    )
    run(home, "show", "example.org", "ONE-rsa")
    assert "one-rsa._domainkey" in (shown := capsys.readouterr().out) and "one-ed" not in shown
    run(home, "show", "Sub.Example.test")
    assert "two._domainkey" in (shown := capsys.readouterr().out) and "one-" not in shown
    run(home, "remove", "EXAMPLE.org", "one-rsa")
    assert capsys.readouterr().out == "key one-rsa of example.org removed\n"
    assert selectors(home) == ["one-ed", "two"]
    for words in (["remove", "example.org", "one-rsa"], ["show", "example.org", "one-rsa"], ["show", "example.test"]):
        with pytest.raises(Refused, match="there is no key"):
            run(home, *words)


def test_without_keys_the_list_says_what_that_means(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    run(home, "list")
    said = capsys.readouterr()
    assert said.out == "" and "unsigned" in said.err
    with pytest.raises(Refused, match=r"there is no key$"):
        run(home, "show")


def test_a_damaged_key_is_listed_with_what_is_wrong(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    run(home, "add", "--selector", "one")
    Path(home.dkim, "example.org", "one-ed.pem").write_bytes(b"damaged")
    capsys.readouterr()
    run(home, "list")
    first, second = capsys.readouterr().out.split("\n")[:2]
    assert first.startswith("example.org\tone-ed\t-\tnot used: ") and "is damaged" in first
    assert second == "example.org\tone-rsa\trsa\t"
    with pytest.raises(Refused, match="is damaged"):
        run(home, "show")
    assert "one-rsa._domainkey" in capsys.readouterr().out


@pytest.mark.parametrize("domain", ["example.net", "org2", "notexample.org", "deep.example.org"])
def test_a_domain_that_is_none_of_ours_gets_no_key(domain: str, home: Home) -> None:
    with pytest.raises(Refused, match=r"no domain of ours.*example\.org, sub\.example\.test"):
        run(home, "add", domain)


@pytest.mark.parametrize(
    "words",
    [
        ["add", "../example.org"],
        ["add", "--selector", "../x"],
        ["add", "--selector", "a b"],
        ["add", "--selector", "x" * 63],
        ["remove", "example.org", "../x"],
        ["remove", "..", "x"],
    ],
)
def test_what_is_no_name_is_misuse(words: list[str], home: Home) -> None:
    with pytest.raises(Misuse, match=r"is no (domain|selector)"):
        run(home, *words)
    assert not os.path.exists(home.dkim)


@pytest.mark.parametrize("words", [["list"], ["show"], ["remove", "example.org", "x"]])
def test_without_a_home_there_are_no_keys(words: list[str], place: Path) -> None:
    with pytest.raises(Refused, match="no home"):
        run(Home(str(place)), *words)
    assert not place.exists()
