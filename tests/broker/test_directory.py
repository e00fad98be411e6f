"""Addresses and login names to accounts: aliases, catch-all, extensions, forwards, and which addresses an account owns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.broker.directory import NOBODY, NOT_OURS, Directory, Resolution
from pillarbox.config import Config
from pillarbox.store.devices import Credential
from pillarbox.store.secrets import generate
from pillarbox.terms import Account, Refused, TryLater

DOMAINS = ["example.test", "other.test"]


class Source:
    """Accounts in memory, the oldest first. A name without a domain is of the first one."""

    def __init__(self, *names: str, trouble: Exception | None = None) -> None:
        self.names = [full(name) for name in names]
        self.trouble = trouble
        self.secret = b"secret"
        self.uids: dict[str, int] = {}  # of system users
        self.asked: list[str] = []
        self.more: dict[str, tuple[Credential, ...]] = {}  # devices

    def find(self, name: str) -> Account | None:
        self.asked.append(name)
        if self.trouble is not None:
            raise self.trouble
        return Account(name, f"/mail/{name}", self.uids.get(name)) if name in self.names else None

    def login(self, name: str) -> tuple[Account | None, bytes | None]:
        account = self.find(name)
        return account, self.secret if account else None

    def credentials(self, name: str) -> tuple[Credential, ...]:
        return self.more.get(name, ())

    def first(self, domains: Sequence[str]) -> str | None:
        return next((name for name in self.names if name.partition("@")[2] in domains), None)


def full(name: str) -> str:
    return name if "@" in name else f"{name}@{DOMAINS[0]}"


def directory(
    *accounts: str, system: Source | None = None, accounts_table: dict[str, Any] | None = None, **tables: Any
):
    """Of these local accounts, and of system users where there is a source of these."""
    table: dict[str, Any] = {"source": ["local", "passwd"] if system else ["local"], **(accounts_table or {})}
    config = msgspec.convert({"domains": DOMAINS, "accounts": table, **tables}, Config)
    return Directory(config, Source(*accounts), lambda _: system)  # type: ignore[arg-type, return-value]


def mailboxes(found: Resolution) -> list[str]:
    return [account.name for account in found.accounts]


def leads(found: Resolution) -> tuple[list[str], list[str]]:
    """To which mailboxes here, and to which addresses."""
    return mailboxes(found), list(found.forwards)


# Plain addresses.


@pytest.mark.parametrize(
    "address", [b"alice@example.test", b"Alice@EXAMPLE.test", b"alice", b"ALICE", b"alice-x@example.test", b"alice+x"]
)
def test_an_account_gets_its_mail(address: bytes) -> None:
    found = directory("alice", "bob").resolve(address)
    assert leads(found) == (["alice@example.test"], [])
    assert found.local and found.deliverable and found.mailbox is found.accounts[0]


@pytest.mark.parametrize(
    "address", [b"nobody@example.test", b"alice@other.test", b"alicex", b"-alice", b"+x@other.test"]
)
def test_nobody_of_that_name(address: bytes) -> None:
    found = directory("alice").resolve(address)
    assert found == NOBODY and not found.deliverable and found.mailbox is None


@pytest.mark.parametrize(
    "address",
    [b"alice@elsewhere.test", b"alice@sub.example.test", b"alice@example.test.", b"alice@[127.0.0.1]", b"a@\xc3\xa9"],
)
def test_other_domains_are_not_ours(address: bytes) -> None:
    assert directory("alice").resolve(address) == NOT_OURS


UNUSUAL = [
    b'"a b"@example.test',
    "jürgen@example.test".encode(),
    b"\xff@example.test",
    b".alice@example.test",
    b"a..b@example.test",
    b"al%ice@example.test",
    b"@example.test",
    b"x" * 65 + b"@example.test",
    "\u212aate@example.test".encode(),  # the Kelvin sign, which lower() turns into a k
]


@pytest.mark.parametrize("address", UNUSUAL)
def test_a_name_that_no_account_can_have_is_nobodys(address: bytes) -> None:
    people = directory("alice", "kate", "example.test")
    assert people.resolve(address) == NOBODY
    assert not people.owns("alice@example.test", address)


@pytest.mark.parametrize("address", UNUSUAL)
def test_the_catch_all_gets_what_no_account_can_be_called(address: bytes) -> None:
    people = directory("alice", aliases={"@example.test": "alice"})
    assert mailboxes(people.resolve(address)) == ["alice@example.test"]


# Extensions.


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("mary-ann", "mary-ann"),
        ("mary-ann-lists", "mary-ann"),
        ("mary-ann+lists", "mary-ann"),
        ("mary-ann-a-b+c", "mary-ann"),
        ("mary-lists", "mary"),
        ("mary-annual", "mary"),
        ("mary+x-y", "mary"),
        ("mary-", "mary"),
        ("jean+paul-x", "jean+paul"),
        ("jean+x", ""),
        ("-mary", ""),
        ("mary_x", ""),
    ],
)
def test_the_longest_name_before_a_separator_counts(address: str, account: str) -> None:
    found = directory("mary", "mary-ann", "jean+paul").resolve(full(address).encode())
    assert mailboxes(found) == ([full(account)] if account else [])


def test_separators_are_those_of_the_configuration() -> None:
    only_plus = directory("alice", accounts_table={"extensions": ["+"]})
    assert only_plus.resolve(b"alice+x").deliverable and not only_plus.resolve(b"alice-x").deliverable
    none = directory("alice", "mary-ann", accounts_table={"extensions": []})
    assert not none.resolve(b"alice+x").deliverable and none.resolve(b"mary-ann").deliverable


def test_an_extension_of_an_alias_leads_where_the_alias_does() -> None:
    people = directory("alice", aliases={"info": "alice", "info-x": "x@elsewhere.test"})
    assert leads(people.resolve(b"info-y")) == (["alice@example.test"], [])
    assert leads(people.resolve(b"info-x")) == ([], ["x@elsewhere.test"])


# Aliases.


def test_chains_of_aliases_are_followed() -> None:
    people = directory("alice", aliases={"a": "b", "b": "c@other.test", "c@other.test": "Alice"})
    for address in (b"a", b"b@example.test", b"C@Other.Test"):
        assert leads(people.resolve(address)) == (["alice@example.test"], [])
    assert people.resolve(b"c@example.test") == NOBODY


def test_an_alias_has_several_targets_each_reached_once() -> None:
    aliases = {
        "all": ["alice", "team", "x@elsewhere.test", "alice"],
        "team": ["bob", "alice", "x@elsewhere.test", "gone"],
    }
    found = directory("alice", "bob", aliases=aliases).resolve(b"all")
    assert leads(found) == (["alice@example.test", "bob@example.test"], ["x@elsewhere.test"])
    assert found.mailbox is None


def test_a_long_list_and_lists_of_lists_lose_nobody() -> None:
    """They are as long as their owner has made them."""
    names = [f"u{number}" for number in range(400)]
    aliases: dict[str, Any] = {"all": [*names[:150], "more"], "more": [*names[150:300], "most"], "most": names[300:]}
    people = directory(*names, aliases=aliases)
    assert mailboxes(people.resolve(b"all")) == [full(name) for name in names]
    assert people.owns(full(names[-1]), b"all@example.test")


def test_foreign_targets_stay_as_they_are_and_ours_are_folded() -> None:
    people = directory("alice", aliases={"Sales": ["John.Doe@Elsewhere.TEST", "ALICE@Example.Test"]})
    assert leads(people.resolve(b"sales")) == (["alice@example.test"], ["John.Doe@Elsewhere.TEST"])


@pytest.mark.parametrize(
    "aliases",
    [{"a": "a"}, {"a": "b", "b": "a"}, {"a": ["b", "c"], "b": "a", "c": ["b", "a"]}, {"a": "a-x", "a-x": "a"}],
)
def test_a_circle_leads_to_nobody(aliases: dict[str, Any]) -> None:
    assert directory("alice", aliases=aliases).resolve(b"a") == NOBODY


def test_a_circle_does_not_swallow_the_other_targets() -> None:
    people = directory("alice", aliases={"a": ["b", "alice"], "b": ["a", "x@elsewhere.test"]})
    assert leads(people.resolve(b"a")) == (["alice@example.test"], ["x@elsewhere.test"])


def test_an_alias_goes_before_the_account_of_its_name() -> None:
    people = directory("alice", "bob", aliases={"alice": "bob"})
    assert mailboxes(people.resolve(b"alice")) == mailboxes(people.resolve(b"alice-x")) == ["bob@example.test"]


def test_an_alias_that_names_its_own_account_keeps_a_copy() -> None:
    people = directory("alice", "bob", aliases={"alice": ["alice", "bob", "x@elsewhere.test"], "list": "alice"})
    for address in (b"alice", b"list"):
        assert leads(people.resolve(address)) == (["alice@example.test", "bob@example.test"], ["x@elsewhere.test"])


def test_the_catch_all_gets_the_rest_of_its_domain_alone() -> None:
    people = directory("alice", "bob", aliases={"@other.test": ["bob", "x@elsewhere.test"], "info@other.test": "alice"})
    assert leads(people.resolve(b"any.thing@other.test")) == (["bob@example.test"], ["x@elsewhere.test"])
    assert leads(people.resolve(b"alice@other.test")) == (["bob@example.test"], ["x@elsewhere.test"])
    assert mailboxes(people.resolve(b"info@other.test")) == ["alice@example.test"]
    assert people.resolve(b"any.thing@example.test") == NOBODY


# Names that always lead to somebody.


@pytest.mark.parametrize("address", [b"postmaster", b"PostMaster@example.test", b"abuse@other.test"])
def test_postmaster_and_abuse_are_the_oldest_accounts(address: bytes) -> None:
    people = directory("old", "new", aliases={"@other.test": "new"})
    assert mailboxes(people.resolve(address)) == ["old@example.test"]
    assert people.owns("old@example.test", address) and not people.owns("new@example.test", address)


def test_an_alias_or_an_account_of_that_name_goes_first() -> None:
    people = directory("old", "postmaster", aliases={"abuse": "x@elsewhere.test"})
    assert mailboxes(people.resolve(b"postmaster")) == ["postmaster@example.test"]
    assert leads(people.resolve(b"abuse")) == ([], ["x@elsewhere.test"])
    assert people.resolve(b"abuse-x@other.test") == NOBODY
    assert directory().resolve(b"postmaster") == NOBODY


# Forwards.


def test_a_forward_takes_the_place_of_the_mailbox() -> None:
    people = directory("alice", "bob", forwards={"Alice": ["Al@Elsewhere.test", "bob"]})
    for address in (b"alice", b"alice-x@example.test"):
        assert leads(people.resolve(address)) == ([], ["Al@Elsewhere.test", "bob@example.test"])


def test_a_forward_to_the_account_itself_keeps_a_copy() -> None:
    found = directory("alice", forwards={"alice": ["alice", "al@elsewhere.test"]}).resolve(b"alice")
    assert leads(found) == (["alice@example.test"], ["al@elsewhere.test"])
    assert found.mailbox is None


def test_an_alias_leads_to_the_account_that_forwards_not_past_it() -> None:
    """That account is looked at in its turn: Delivered-To then names it, and a loop is found."""
    people = directory("alice", "bob", aliases={"list": ["alice", "bob"]}, forwards={"alice": "al@elsewhere.test"})
    assert leads(people.resolve(b"list")) == (["bob@example.test"], ["alice@example.test"])


def test_an_account_that_is_an_alias_and_forwards_loses_no_copy() -> None:
    """Were the account looked at in its turn, the same address would be met again, and left out as a loop."""
    people = directory(
        "alice", aliases={"alice": ["alice", "a@elsewhere.test"]}, forwards={"alice": ["alice", "b@elsewhere.test"]}
    )
    assert leads(people.resolve(b"alice")) == (["alice@example.test"], ["b@elsewhere.test", "a@elsewhere.test"])


# What an account owns.


OWNED = [
    (b"alice@example.test", True),
    (b"Alice@Example.Test", True),
    (b"alice-lists@example.test", True),
    (b"info@example.test", True),
    (b"info+x@example.test", True),
    (b"team@example.test", True),
    (b"chain@other.test", True),
    (b"anything@other.test", True),  # the catch-all's
    (b"bob@example.test", False),
    (b"bob-alice@example.test", False),
    (b"alice@other.test.elsewhere.test", False),
    (b"alice@elsewhere.test", False),
    (b"al@elsewhere.test", False),
    (b"out@example.test", False),
    (b"nobody@example.test", False),
    (b"forwarder@example.test", False),
    (b"", False),
    (b"@example.test", False),
]


@pytest.mark.parametrize(("address", "owned"), OWNED)
def test_an_account_owns_the_addresses_whose_mail_it_gets(address: bytes, owned: bool) -> None:
    aliases = {
        "info": "alice",
        "team": ["bob", "alice"],
        "chain@other.test": "info",
        "out": "alice@elsewhere.test",
        "@other.test": "alice",
    }
    forwards = {"alice": "al@elsewhere.test", "forwarder": "alice"}
    people = directory("bob", "alice", "forwarder", aliases=aliases, forwards=forwards)
    assert people.owns("alice@example.test", address) is owned


# Logins, and several sources.


def test_a_login_name_is_folded_and_completed() -> None:
    people = directory("alice", "carol@other.test", aliases={"info": "alice"})
    for name in (b"alice", b"ALICE@Example.Test"):
        account, secret = people.login(name)
        assert account is not None and (account.name, secret) == ("alice@example.test", b"secret")
    for name in (b"carol", b"info", b"alice-x", b"", b"@", b"../alice", b"\xef\xbd\x81lice", b"alice@elsewhere.test"):
        assert people.login(name) == (None, None)


def test_the_sources_are_asked_in_their_order() -> None:
    system = Source("alice", "bob")
    people = directory("alice", system=system)
    assert people.login(b"alice")[0] is not None and system.asked == []
    assert people.login(b"bob")[0] is not None and system.asked == ["bob@example.test"]
    assert mailboxes(people.resolve(b"bob-x")) == ["bob@example.test"]


def test_a_secret_that_can_not_be_trusted_lets_nobody_in(capfd: pytest.CaptureFixture[str]) -> None:
    people = directory("alice", system=Source("bob", trouble=Refused("its file is open to all")))
    assert people.login(b"bob") == (None, None)
    assert "secret-refused" in capfd.readouterr().err


def test_a_store_that_can_not_tell_is_no_answer() -> None:
    people = directory("alice", system=Source("bob", trouble=TryLater("the disk")))
    assert people.resolve(b"alice").deliverable
    for ask in (people.login, people.resolve):
        with pytest.raises(TryLater):
            ask(b"bob")
    with pytest.raises(TryLater):
        people.owns("alice@example.test", b"bob@example.test")


NAMES = st.sampled_from(["a", "b", "c", "d", "a-x", "@example.test", "a@other.test", "postmaster"])
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "d", "a-x", "z@elsewhere.test"]), min_size=1, max_size=3)


@given(
    st.dictionaries(NAMES, TARGETS), st.dictionaries(st.sampled_from("abcd"), TARGETS), st.sets(st.sampled_from("abcd"))
)
def test_every_lookup_ends_and_says_nothing_twice(
    aliases: dict[str, Sequence[str]], forwards: dict[str, Sequence[str]], accounts: set[str]
) -> None:
    """Whatever leads to whatever: an address is deliverable where it leads somewhere; who owns it gets its mail."""
    people = directory(*sorted(accounts), aliases=aliases, forwards=forwards)
    for address in (b"a", b"b", b"a-x-y", b"a@other.test", b"postmaster", b"q", b'"q"@example.test'):
        found = people.resolve(address)
        assert found.local and found.deliverable == bool(found.accounts or found.forwards)
        assert len(set(mailboxes(found))) == len(found.accounts) and len(set(found.forwards)) == len(found.forwards)
        assert "" not in found.forwards
        for account in accounts:
            if people.owns(full(account), address) and account not in forwards:
                assert full(account) in mailboxes(found)


def test_the_oldest_account_of_a_domain_that_is_no_longer_ours_gets_no_mail_for_postmaster() -> None:
    found = directory("root@gone.test", "alice").resolve(b"postmaster")
    assert [account.name for account in found.accounts] == ["alice@example.test"]


# At a glance.


def test_a_glance_at_a_long_list_stops_at_the_second_target() -> None:
    names = [f"u{number}" for number in range(5000)]
    local = Source(*names)
    config = msgspec.convert(
        {"domains": DOMAINS, "aliases": {"all": names, "lists": ["all", "x@elsewhere.test"]}}, Config
    )
    people = Directory(config, local, lambda _: local)  # type: ignore[arg-type, return-value]
    for address in (b"all", b"lists"):
        local.asked.clear()
        found = people.glance(address)
        assert found.deliverable and found.mailbox is None
        assert len(local.asked) <= 2
    assert len(people.resolve(b"all").accounts) == 5000


@given(
    st.dictionaries(NAMES, TARGETS), st.dictionaries(st.sampled_from("abcd"), TARGETS), st.sets(st.sampled_from("abcd"))
)
def test_a_glance_tells_what_a_look_tells(
    aliases: dict[str, Sequence[str]], forwards: dict[str, Sequence[str]], accounts: set[str]
) -> None:
    people = directory(*sorted(accounts), aliases=aliases, forwards=forwards)
    for address in (b"a", b"b", b"a-x-y", b"a@other.test", b"postmaster", b"q", b"x@elsewhere.test"):
        glance, look = people.glance(address), people.resolve(address)
        assert (glance.local, glance.deliverable, glance.mailbox) == (look.local, look.deliverable, look.mailbox)


# System users with .qmail files.


def with_dot_qmail(*users: str, accounts: Sequence[str] = (), **tables: Any) -> Directory:
    system = Source(*users)
    system.uids = {full(name): 1000 for name in users}
    table = {"dot_qmail": True, **tables.pop("accounts_table", {})}
    return directory(*accounts, system=system, accounts_table=table, **tables)


def ruled(found: Resolution) -> tuple[str, str]:
    """Whose .qmail file, and with which extension."""
    return (found.instructed.name if found.instructed else "", found.extension)


@pytest.mark.parametrize(
    ("address", "user", "extension"),
    [
        (b"alice", "alice", ""),
        (b"Alice@EXAMPLE.test", "alice", ""),
        (b"alice-list@example.test", "alice", "list"),
        (b"alice+list", "alice", "list"),
        (b"alice-a-B.c", "alice", "a-b.c"),
        (b"alice-work@example.test", "alice-work", ""),
        (b"alice-work-x", "alice-work", "x"),
        (b"nobody@example.test", "alias", "nobody"),
        (b"some-body", "alias", "some-body"),
        (b"postmaster@example.test", "alias", "postmaster"),
        (b"alias", "alias", ""),
        (b"alias-x", "alias", "x"),
    ],
)
def test_a_dot_qmail_file_rules_a_system_users_names(address: bytes, user: str, extension: str) -> None:
    found = with_dot_qmail("alice", "alice-work", "alias").resolve(address)
    assert ruled(found) == (full(user), extension)
    assert mailboxes(found) == [full(user)] and found.deliverable and found.mailbox is None


def test_without_the_key_no_dot_qmail_file_has_a_say() -> None:
    people = with_dot_qmail("alice", "alias", accounts_table={"dot_qmail": False})
    assert ruled(people.resolve(b"alice-x")) == ("", "") and people.resolve(b"alice-x").mailbox
    assert people.resolve(b"nobody") == NOBODY


def test_virtual_accounts_have_none() -> None:
    people = with_dot_qmail("bob", accounts=("alice",))
    assert ruled(people.resolve(b"alice-x")) == ("", "") and people.resolve(b"alice-x").mailbox
    assert people.resolve(b"nobody") == NOBODY  # there is no alias user


def test_an_alias_leads_to_the_users_name_whose_file_is_looked_at_in_its_turn() -> None:
    people = with_dot_qmail(
        "alice", "bob", aliases={"news": "alice-news", "all": ["alice", "bob"], "bob": ["bob", "x@y.test"]}
    )
    assert leads(people.resolve(b"news")) == ([], ["alice-news@example.test"])
    _, forwards = leads(people.resolve(b"all"))
    assert sorted(forwards) == ["alice@example.test", "bob@example.test", "x@y.test"]
    found = people.resolve(b"bob")
    assert (ruled(found), leads(found)) == (("bob@example.test", ""), (["bob@example.test"], ["x@y.test"]))


def test_what_the_configuration_says_goes_before_the_file() -> None:
    people = with_dot_qmail(
        "alice", "alias", forwards={"alice": "a@elsewhere.test"}, aliases={"@example.test": "bob@b.test"}
    )
    assert (ruled(people.resolve(b"alice")), leads(people.resolve(b"alice-x"))) == (
        ("", ""),
        ([], ["a@elsewhere.test"]),
    )
    assert leads(people.resolve(b"nobody")) == ([], ["bob@b.test"])  # the catch-all, not the alias user


def test_postmaster_is_the_oldest_account_where_there_is_one() -> None:
    assert mailboxes(with_dot_qmail("alias", accounts=("bob",)).resolve(b"postmaster")) == ["bob@example.test"]


@pytest.mark.parametrize(
    ("prefix", "address", "user", "extension"),
    [
        ("alice-sales", b"info@other.test", "alice", "sales-info"),
        ("alice-sales", b"A.B@Other.test", "alice", "sales-a.b"),
        ("alice", b"info@other.test", "alice", "info"),
        ("sales", b"info@other.test", "alias", "sales-info"),
        ("", b"alice@other.test", "alice", ""),
        ("", b"alice-x@other.test", "alice", "x"),
        ("", b"nobody@other.test", "alias", "nobody"),
    ],
)
def test_a_virtual_domain(prefix: str, address: bytes, user: str, extension: str) -> None:
    table = {"virtual_domains": {"Other.test": prefix}}
    people = with_dot_qmail("alice", "alias", accounts_table=table)
    assert ruled(people.resolve(address)) == (full(user), extension)
    assert people.owns(full(user), address)


def test_in_a_virtual_domain_a_mailbox_or_an_alias_of_the_very_name_goes_before() -> None:
    table = {"virtual_domains": {"other.test": "alice-v"}}
    people = with_dot_qmail(
        "alice", accounts=("bob@other.test",), accounts_table=table, aliases={"x@other.test": "a@b.test"}
    )
    assert mailboxes(people.resolve(b"bob@other.test")) == ["bob@other.test"]
    assert leads(people.resolve(b"x@other.test")) == ([], ["a@b.test"])


def test_a_virtual_domain_works_for_virtual_accounts_too() -> None:
    people = directory("alice", accounts_table={"virtual_domains": {"other.test": ""}})
    assert mailboxes(people.resolve(b"alice@other.test")) == ["alice@example.test"]
    assert people.resolve(b"bob@other.test") == NOBODY


@pytest.mark.parametrize("name", [b"nobody", b"nobody+phone", b"no name", b"\xff", b"alice"])
def test_credentials_are_looked_for_whether_there_is_an_account_or_not(
    name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(Source, "credentials", lambda _, name: looked.append(name) or ())
    directory("alice").credentials(name)
    assert len(looked) == 1


def test_the_generated_secrets_of_a_login_name() -> None:
    """A device's is none of ours where it was imported; and no user's file is looked at, whatever it holds."""
    ours, phone, laptop = (generate().encode() for _ in range(3))
    users = Source("carol")
    users.uids["carol@example.test"] = 1000
    users.secret = generate().encode()
    people = directory("alice", system=users)
    local: Any = people._local
    local.secret = ours
    devices = Credential(phone, "phone"), Credential(b"a chosen secret", "imported"), Credential(laptop, "laptop")
    local.more = {"alice@example.test": devices, "carol@example.test": devices[:2]}
    assert people.generated(b"Alice") == (ours, phone, laptop)
    assert people.generated(b"alice+laptop@example.test") == (laptop,)
    assert people.generated(b"carol") == (phone,)
    for name in (b"alice+imported", b"alice+none", b"nobody", b"nobody+phone", b"", b"\xff"):
        assert people.generated(name) == ()
    local.secret, local.more = b"a chosen secret", {"alice@example.test": (Credential(phone, hashed=True),)}
    assert people.generated(b"alice") == ()
