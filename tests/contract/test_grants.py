"""What every store of grants promises (store.contract.Grants)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillarbox.store.contract import Grants
from pillarbox.store.grants import Grants as FileGrants

NOW, MONOTONIC = 1_800_000_000.0, 5_000.0
ALICE, BOB = "alice@example.test", "bob@example.test"
V4, V6 = "192.0.2.1", "2001:db8::1"
FINGERPRINT = b"8 octets"


@pytest.fixture
def grants(tmp_path: Path) -> Grants:
    """Each lasts 900 seconds, for 3 messages to 10 recipients."""
    return FileGrants(str(tmp_path), key=bytes(32), boot="boot", expiry=900, messages=3, recipients=10, classic=False)


def mint(grants: Grants, address: str = V4, account: str = ALICE, after: float = 0) -> None:
    grants.mint(address, account, "APOP", FINGERPRINT, NOW + after, MONOTONIC + after)


def accounts(grants: Grants, address: str = V4, after: float = 0) -> list[str]:
    return [stored.grant.account for stored in grants.find(address, NOW + after, MONOTONIC + after)]


def left(grants: Grants, account: str = ALICE, after: float = 0) -> tuple[int, int]:
    found = [stored.grant for stored in grants.find(V4, NOW + after, MONOTONIC + after)]
    return next((grant.messages, grant.recipients) for grant in found if grant.account == account)


def spend(grants: Grants, recipients: int, account: str = ALICE, address: str = V4) -> bool:
    return grants.spend(address, account, recipients, NOW, MONOTONIC)


@pytest.mark.parametrize("address", [V4, V6])
def test_a_grant_is_found_while_it_lasts(grants: Grants, address: str) -> None:
    assert accounts(grants, address) == []
    mint(grants, address)
    (stored,) = grants.find(address, NOW + 899, MONOTONIC + 899)
    grant = stored.grant
    assert (grant.address, grant.account, grant.mechanism) == (address, ALICE, "APOP")
    assert (grant.created, grant.expires, grant.messages, grant.recipients) == (NOW, NOW + 900, 3, 10)
    assert stored.fingerprint == FINGERPRINT
    assert accounts(grants, address, 900) == []


def test_a_grant_is_for_one_address(grants: Grants) -> None:
    mint(grants)
    assert accounts(grants, "192.0.2.2") == accounts(grants, V6) == []


def test_an_address_is_the_same_however_it_is_written(grants: Grants) -> None:
    mint(grants, "::ffff:192.0.2.1")
    mint(grants, "2001:DB8:0::1")
    assert accounts(grants, V4) == accounts(grants, V6) == [ALICE]
    assert spend(grants, 1, address="::ffff:c000:201")
    assert left(grants) == (2, 9)


def test_several_accounts_have_each_their_own(grants: Grants) -> None:
    mint(grants)
    mint(grants, account=BOB, after=1)
    assert accounts(grants, after=1) == [ALICE, BOB]
    assert spend(grants, 4, BOB)
    assert (left(grants), left(grants, BOB)) == ((3, 10), (2, 6))


def test_a_login_brings_fresh_counts(grants: Grants) -> None:
    mint(grants)
    assert spend(grants, 10)
    mint(grants, after=1)
    assert left(grants, after=1) == (3, 10)


def test_a_session_prolongs_and_refills_nothing(grants: Grants) -> None:
    mint(grants)
    assert spend(grants, 4)
    grants.prolong(V4, ALICE, NOW + 800, MONOTONIC + 800)
    assert left(grants, after=1600) == (2, 6)
    assert accounts(grants, after=1700) == []


def test_a_session_makes_no_grant(grants: Grants) -> None:
    grants.prolong(V4, ALICE, NOW, MONOTONIC)
    assert accounts(grants) == []
    mint(grants, account=BOB)
    grants.prolong(V4, ALICE, NOW, MONOTONIC)
    assert accounts(grants) == [BOB]
    mint(grants)
    grants.revoke(V4)
    grants.prolong(V4, ALICE, NOW, MONOTONIC)
    assert accounts(grants) == []


def test_what_is_over_is_not_prolonged(grants: Grants) -> None:
    mint(grants)
    grants.prolong(V4, ALICE, NOW + 901, MONOTONIC + 901)
    assert accounts(grants, after=901) == []


def test_spending_ends(grants: Grants) -> None:
    mint(grants)
    assert not spend(grants, 11)
    assert not spend(grants, 0)
    assert not spend(grants, -1)
    assert [spend(grants, 2) for _ in range(4)] == [True, True, True, False]
    assert left(grants) == (0, 4)


def test_nobody_spends_what_is_not_his(grants: Grants) -> None:
    assert not spend(grants, 1)
    mint(grants)
    assert not spend(grants, 1, BOB)
    assert not spend(grants, 1, address="192.0.2.2")
    assert not grants.spend(V4, ALICE, 1, NOW + 900, MONOTONIC + 900)
    assert left(grants) == (3, 10)


def test_revoking_an_address(grants: Grants) -> None:
    for address in (V4, V6):
        mint(grants, address)
    assert grants.revoke(V4)
    assert (accounts(grants, V4), accounts(grants, V6)) == ([], [ALICE])
    assert not grants.revoke(V4)


def test_revoking_one_account_there(grants: Grants) -> None:
    mint(grants)
    mint(grants, account=BOB)
    assert not grants.revoke(V4, "carol@example.test")
    assert grants.revoke(V4, ALICE)
    assert accounts(grants) == [BOB]
    assert grants.revoke(V4, BOB)
    assert accounts(grants) == []


def test_revoking_an_account_everywhere(grants: Grants) -> None:
    for address in (V4, V6):
        mint(grants, address)
    mint(grants, account=BOB)
    mint(grants, "192.0.2.2", BOB)
    assert grants.revoke_account(ALICE) == 2
    assert (accounts(grants, V4), accounts(grants, V6), accounts(grants, "192.0.2.2")) == ([BOB], [], [BOB])
    assert grants.revoke_account(ALICE) == 0


def test_revoking_all(grants: Grants) -> None:
    for address in (V4, V6):
        mint(grants, address)
    assert grants.revoke_all() == 2
    assert list(grants.every(NOW, MONOTONIC)) == []


def test_after_a_revocation_a_login_counts_again(grants: Grants) -> None:
    mint(grants)
    grants.revoke(V4)
    mint(grants)
    assert accounts(grants) == [ALICE]


def test_all_that_live_are_listed(grants: Grants) -> None:
    mint(grants)
    mint(grants, V6, BOB, 500)
    mint(grants, V6, ALICE, 500)
    found = {(stored.grant.address, stored.grant.account) for stored in grants.every(NOW + 899, MONOTONIC + 899)}
    assert found == {(V4, ALICE), (V6, BOB), (V6, ALICE)}
    assert {stored.grant.address for stored in grants.every(NOW + 900, MONOTONIC + 900)} == {V6}


def test_expiring_takes_what_is_over_and_nothing_else(grants: Grants) -> None:
    mint(grants)
    mint(grants, V6, after=500)
    grants.expire(NOW + 1000)
    assert accounts(grants, V4) == []
    assert accounts(grants, V6, 1000) == [ALICE]


@pytest.mark.parametrize("address", ["", "localhost", "../../etc/passwd", "fe80::1%eth0"])
def test_what_is_no_address_has_no_grant(grants: Grants, address: str) -> None:
    assert accounts(grants, address) == []
    assert not spend(grants, 1, address=address)
    assert not grants.revoke(address)
    grants.prolong(address, ALICE, NOW, MONOTONIC)
