"""What has been taken off a grant's file ahead of its spending, so that a big grant is not written each time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from ..terms import Grant

SHARES = 200  # of a grant: so many writes spend all of it; of fewer messages each is written
REMEMBERED = 65_536  # grants


@dataclass(slots=True)
class _Share:
    created: float  # which grant: a later login makes another
    messages: int
    recipients: int


class Shares:
    """By address and account. All of it is lost with this process, and not spent then."""

    def __init__(self) -> None:
        self._shares: OrderedDict[tuple[str, str], _Share] = OrderedDict()

    def spend(self, grant: Grant, recipients: int) -> bool:
        """Take one message to so many recipients off what there is; False where that is not enough."""
        share = self._of(grant)
        if share is None or share.messages < 1 or not 0 < recipients <= share.recipients:
            return False
        share.messages -= 1
        share.recipients -= recipients
        return True

    def less(self, grant: Grant, recipients: int) -> Grant:
        """What is left of a grant of which one message to so many recipients is spent, and a share taken ahead.

        With what was taken before, it must hold as much. Nothing is taken yet: see `took`.
        """
        return replace(
            grant,
            messages=max(0, grant.messages - max(1, grant.messages // SHARES)),
            recipients=max(0, grant.recipients - max(recipients, grant.recipients // SHARES)),
        )

    def took(self, before: Grant, after: Grant, recipients: int) -> None:
        """`after`, which `less` made of `before`, has been written: the rest of the difference may be spent."""
        share = self._of(before) or _Share(before.created, 0, 0)
        share.messages += before.messages - after.messages - 1
        share.recipients += before.recipients - after.recipients - recipients
        key = before.address, before.account
        self._shares[key] = share
        self._shares.move_to_end(key)
        if len(self._shares) > REMEMBERED:
            self._shares.popitem(last=False)

    def whole(self, grant: Grant) -> Grant:
        """With what has been taken ahead and not been spent."""
        share = self._of(grant)
        if share is None:
            return grant
        return replace(grant, messages=grant.messages + share.messages, recipients=grant.recipients + share.recipients)

    def _of(self, grant: Grant) -> _Share | None:
        share = self._shares.get((grant.address, grant.account))
        return share if share is not None and share.created == grant.created else None
