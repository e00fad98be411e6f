"""What every store of grants promises (store.contract.Grants)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillarbox.store.contract import Grants
from pillarbox.store.grants import Grants as FileGrants

NOW = 1_800_000_000.0
ALICE = "alice@example.test"
V4, V6 = "192.0.2.1", "2001:db8::1"


@pytest.fixture
def grants(tmp_path: Path) -> Grants:
    """Each lasts 900 seconds."""
    return FileGrants(str(tmp_path), 900)


@pytest.mark.parametrize("address", [V4, V6])
def test_a_grant_is_found_while_it_lasts(grants: Grants, address: str) -> None:
    assert grants.find(address, NOW) is None
    grants.renew(address, ALICE, NOW)
    grant = grants.find(address, NOW + 899)
    assert grant is not None
    assert (grant.account, grant.created, grant.expires) == (ALICE, NOW, NOW + 900)
    assert grants.find(address, NOW + 901) is None


def test_a_grant_is_for_one_address(grants: Grants) -> None:
    grants.renew(V4, ALICE, NOW)
    assert grants.find("192.0.2.2", NOW) is None
    assert grants.find(V6, NOW) is None


def test_an_address_is_the_same_however_it_is_written(grants: Grants) -> None:
    grants.renew("::ffff:192.0.2.1", ALICE, NOW)
    grants.renew("2001:DB8:0::1", ALICE, NOW)
    assert grants.find(V4, NOW) is not None
    assert grants.find(V6, NOW) is not None


def test_renewing_prolongs(grants: Grants) -> None:
    grants.renew(V4, ALICE, NOW)
    grants.renew(V4, ALICE, NOW + 800)
    grant = grants.find(V4, NOW + 1600)
    assert grant is not None
    assert grant.created == NOW + 800


def test_expiring_takes_what_is_over_and_nothing_else(grants: Grants) -> None:
    grants.renew(V4, ALICE, NOW)
    grants.renew(V6, ALICE, NOW + 500)
    grants.expire(NOW + 1000)
    assert grants.find(V4, NOW) is None
    assert grants.find(V6, NOW + 1000) is not None


@pytest.mark.parametrize("address", ["", "localhost", "../../etc/passwd", "fe80::1%eth0"])
def test_what_is_no_address_has_no_grant(grants: Grants, address: str) -> None:
    assert grants.find(address, NOW) is None
