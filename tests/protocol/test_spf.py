"""SPF, by the examples of RFC 7208."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pillarbox.protocol.spf import LOOKUPS_LIMIT, evaluate, records
from pillarbox.terms import TryLater

# RFC 7208 Appendix A.
ZONE = {
    ("example.com", "MX"): ["10 mail-a.example.com", "20 mail-b.example.com"],
    ("example.com", "A"): ["192.0.2.10", "192.0.2.11"],
    ("amy.example.com", "A"): ["192.0.2.65"],
    ("bob.example.com", "A"): ["192.0.2.66"],
    ("mail-a.example.com", "A"): ["192.0.2.129"],
    ("mail-b.example.com", "A"): ["192.0.2.130"],
    ("example.org", "MX"): ["10 mail-c.example.org"],
    ("mail-c.example.org", "A"): ["192.0.2.140"],
}
HOSTS = [f"192.0.2.{number}" for number in (10, 11, 65, 66, 128, 129, 130, 131, 132, 139, 140, 143, 144)]


def zone(**texts: str) -> Callable[[str, str], list[str]]:
    """That zone, with SPF records: keys are names with "_" for "."."""
    published = {key.replace("_", "."): [text] for key, text in texts.items()}
    return lambda name, kind: published.get(name, []) if kind == "TXT" else ZONE.get((name, kind), [])


def passing(text: str) -> list[str]:
    return [host for host in HOSTS if evaluate(host, "example.com", zone(example_com=text)) == "pass"]


@pytest.mark.parametrize(
    ("text", "pass_"),
    [
        ("v=spf1 +all", HOSTS),
        ("v=spf1 a -all", ["192.0.2.10", "192.0.2.11"]),
        ("v=spf1 a:example.org -all", []),
        ("v=spf1 mx -all", ["192.0.2.129", "192.0.2.130"]),
        ("v=spf1 mx:example.org -all", ["192.0.2.140"]),
        ("v=spf1 mx mx:example.org -all", ["192.0.2.129", "192.0.2.130", "192.0.2.140"]),
        (
            "v=spf1 mx/30 mx:example.org/30 -all",
            ["192.0.2.128", "192.0.2.129", "192.0.2.130", "192.0.2.131", "192.0.2.140", "192.0.2.143"],
        ),
        (
            "v=spf1 ip4:192.0.2.128/28 -all",
            [f"192.0.2.{number}" for number in (128, 129, 130, 131, 132, 139, 140, 143)],
        ),
    ],
)
def test_the_examples_of_appendix_a1(text: str, pass_: list[str]) -> None:
    assert passing(text) == pass_


def test_the_examples_of_appendix_a2() -> None:
    ask = zone(
        example_org="v=spf1 include:example.com include:example.net -all",
        la_example_org="v=spf1 redirect=example.org",
        example_com="v=spf1 mx -all",
        example_net="v=spf1 ip4:192.0.2.65 -all",
    )
    for domain in ("example.org", "la.example.org"):
        assert [host for host in HOSTS if evaluate(host, domain, ask) == "pass"] == [
            "192.0.2.65",
            "192.0.2.129",
            "192.0.2.130",
        ]
        assert evaluate("192.0.2.66", domain, ask) == "fail"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("v=spf1", "neutral"),
        ("v=spf1 ?all", "neutral"),
        ("v=spf1 ~all", "softfail"),
        ("v=spf1 -ALL", "fail"),
        ("v=spf1 ip6:2001:db8::/32 -all", "fail"),
        ("v=spf1 exp=explain.example.com -all", "fail"),
        ("v=spf1 ptr -all", "unknown"),
        ("v=spf1 exists:%{ir}.example.com -all", "unknown"),
        ("v=spf1 ip4:192.0.2.300 -all", "permerror"),
        ("v=spf1 ip4:2001:db8::1 -all", "permerror"),
        ("v=spf1 a/99 -all", "permerror"),
        ("v=spf1 nonsense -all", "permerror"),
        ("v=spf1 !! -all", "permerror"),
        ("v=spf1 include:nowhere.test -all", "permerror"),
        ("v=spf1 redirect=nowhere.test", "permerror"),
        ("v=spf1 redirect=example.com", "permerror"),
        ("v=spf1 include:example.com", "permerror"),
        ("v=spf10 +all", "none"),
    ],
)
def test_what_else_a_record_may_say(text: str, result: str) -> None:
    assert evaluate("192.0.2.66", "example.com", zone(example_com=text)) == result


def test_an_ipv6_address_passes_by_its_network() -> None:
    assert evaluate("2001:db8::7", "example.com", zone(example_com="v=spf1 ip6:2001:db8::/32 -all")) == "pass"


def test_lookups_are_counted() -> None:
    least = "v=spf1" + " a:nowhere.test" * LOOKUPS_LIMIT
    assert evaluate("192.0.2.66", "example.com", zone(example_com=f"{least} +all")) == "pass"
    assert evaluate("192.0.2.66", "example.com", zone(example_com=f"{least} a +all")) == "permerror"


def test_two_records_are_an_error() -> None:
    assert evaluate("192.0.2.1", "x.test", lambda name, kind: ["v=spf1 +all", "other", "v=spf1"]) == "permerror"
    assert records(["v=spf1 +all", "V=SPF1", "v=spf1+all", "x"]) == ["v=spf1 +all", "V=SPF1"]


def test_what_the_lookup_raises_is_raised() -> None:
    def ask(name: str, kind: str) -> list[str]:
        raise TryLater("no answer")

    with pytest.raises(TryLater):
        evaluate("192.0.2.1", "example.com", ask)
