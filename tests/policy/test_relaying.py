"""Who gets mail through us: one row for each case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy.relaying import NO_STANDING, NOT_YET, UNKNOWN, may_send

ALICE = "alice@example.test"


@pytest.mark.parametrize("granted", [False, True])
def test_a_mailbox_of_ours_is_open_to_everybody(granted: bool) -> None:
    assert may_send(local=True, account=ALICE, granted=granted) is None


@pytest.mark.parametrize("granted", [False, True])
def test_an_unknown_mailbox_of_ours_is_open_to_nobody(granted: bool) -> None:
    assert may_send(local=True, account="", granted=granted) is UNKNOWN
    assert (UNKNOWN.code, UNKNOWN.enhanced) == (550, "5.1.1")


def test_elsewhere_needs_a_grant() -> None:
    assert may_send(local=False, account="", granted=False) is NO_STANDING
    assert (NO_STANDING.code, NO_STANDING.enhanced) == (550, "5.7.1")
    assert NO_STANDING.text == "relaying denied: this host takes mail for its own mailboxes only"
    assert may_send(local=False, account="", granted=True) is NOT_YET
    assert (NOT_YET.code, NOT_YET.enhanced, NOT_YET.text) == (451, "4.3.0", "relaying is not built yet")


@pytest.mark.parametrize(
    ("code", "reply"),
    [("4.2.2", 452), ("4.3.1", 452), ("4.3.0", 451), ("5.2.2", 552), ("5.3.4", 552), ("5.2.1", 550)],
)
def test_trouble_with_the_mailbox_is_passed_on(code: str, reply: int) -> None:
    refusal = may_send(local=True, account=ALICE, granted=False, code=code, text="over quota")
    assert refusal is not None
    assert (refusal.code, refusal.enhanced, refusal.text) == (reply, code, "over quota")


@given(st.text(), st.booleans(), st.sampled_from(["", "4.2.2", "5.2.2"]))
def test_nothing_makes_a_stranger_of_us_a_relay(account: str, granted: bool, code: str) -> None:
    assert may_send(local=False, account=account, granted=granted, code=code) is not None
