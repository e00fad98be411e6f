"""One POP3 session at a time on a maildrop: who holds it, and who waits (RFC 1939 section 3; RFC 2449 IN-USE)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

Session = tuple[int, int]  # network process, and its number for the connection

WAITERS_LIMIT = 16  # for one maildrop; more are a client gone mad


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that has the maildrop."""

    session: Session
    peer: str
    since: float  # Unix time


class Locks:
    """Who holds which maildrop. `account` is any name of it."""

    def __init__(self) -> None:
        self._holders: dict[str, Holder] = {}
        self._accounts: dict[Session, str] = {}
        self._waiting: dict[str, deque[Holder]] = {}

    def take(self, account: str, holder: Holder) -> bool:
        """The maildrop is theirs now; False if another session holds it."""
        if account in self._holders:
            return False
        self._holders[account] = holder
        self._accounts[holder.session] = account
        return True

    def holder(self, account: str) -> Holder | None:
        return self._holders.get(account)

    def wait(self, account: str, waiter: Holder) -> bool:
        """Queue behind the holder; False if too many wait already."""
        queue = self._waiting.setdefault(account, deque())
        if len(queue) >= WAITERS_LIMIT:
            return False
        queue.append(waiter)
        return True

    def give_up(self, account: str, session: Session) -> bool:
        """This session waits no longer; False if it did not wait."""
        queue = self._waiting.get(account, deque())
        for waiter in queue:
            if waiter.session == session:
                queue.remove(waiter)
                if not queue:
                    del self._waiting[account]
                return True
        return False

    def release(self, session: Session) -> tuple[str, Holder] | None:
        """The session is over. Who waited longest holds the maildrop now, if anybody did: account and new holder."""
        account = self._accounts.pop(session, None)
        if account is None:
            return None
        del self._holders[account]
        queue = self._waiting.get(account)
        if not queue:
            return None
        following = queue.popleft()
        if not queue:
            del self._waiting[account]
        self.take(account, following)
        return account, following

    def sessions(self) -> list[Session]:
        """All sessions that hold a maildrop."""
        return list(self._accounts)
