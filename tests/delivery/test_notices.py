"""Reports: whatever fails meanwhile, each failure is told, and one that was queued already is not queued again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pillarbox.config import Config
from pillarbox.delivery.notices import Notices, is_notice
from pillarbox.store.queue import DiskQueue
from pillarbox.terms import Envelope, Outcome, TryLater

A, B = b"a@one.test", b"b@two.test"
NO_SUCH_USER = Outcome("failed", "5.1.1", "no such user")


class Desk:
    """A queue with one message for A and B, and who tells its sender."""

    def __init__(self, folder: Path) -> None:
        self.queue = DiskQueue(str(folder / "queue"))
        self.notices = Notices(self.queue, Config, lambda identity: None)
        self.identity, descriptor = self.queue.open_slot()
        with open(descriptor, "wb") as file:
            file.write(b"Subject: x\n\nhello\n")
        self.queue.commit(self.identity, Envelope(b"s@far.test", (A, B)))

    def fail(self, *recipients: bytes) -> None:
        """What follows a try."""
        message = self.queue.settle(self.identity, dict.fromkeys(recipients, NO_SUCH_USER))
        asyncio.run(self.notices.tell(message, message.received))

    def fail_unmarked(self, *recipients: bytes) -> None:
        """The same, and then the disk is full."""

        def full(*_: object, **__: object) -> None:
            raise TryLater("the disk is full")

        with pytest.MonkeyPatch.context() as broken, pytest.raises(TryLater):
            broken.setattr(self.queue, "mark", full)
            self.fail(*recipients)

    def reports(self) -> list[bytes]:
        identities = [each for each in self.queue.pending() if is_notice(self.queue.load(each))]
        return [self.queue.content(identity, 1 << 20) for identity in identities]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_who_fails_later_is_told_of_though_the_first_report_could_not_be_noted(desk: Desk) -> None:
    desk.fail_unmarked(A)
    desk.fail(B)
    reports = desk.reports()
    assert all(any(b"Final-Recipient: rfc822; " + address in text for text in reports) for address in (A, B))


@pytest.mark.parametrize("recipients", [(A,), (B,)])
def test_a_report_that_is_made_again_is_the_same_one(desk: Desk, recipients: tuple[bytes, ...]) -> None:
    desk.fail_unmarked(*recipients)
    desk.fail(*recipients)
    assert len(desk.reports()) == 1


def test_who_was_told_of_is_in_no_later_report(desk: Desk) -> None:
    desk.fail(A)
    desk.fail(B)
    assert sorted(A in text.partition(b"Subject: x")[0] for text in desk.reports()) == [False, True]
