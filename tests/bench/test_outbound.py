"""The long queue that the bench lays is one that the delivery process takes for its own."""

from __future__ import annotations

import time
from pathlib import Path

from bench.outbound import SENDER, SIZE, lay_queue

from pillarbox.store.queue import DiskQueue


def test_one_message_is_due_and_the_others_wait(tmp_path: Path) -> None:
    lay_queue(tmp_path / "queue", range(1, 6))
    lay_queue(tmp_path / "queue", range(1))
    queue = DiskQueue(str(tmp_path / "queue"))
    found = queue.recover()
    assert (len(found.due), found.held, found.damaged) == (6, [], [])
    now = time.time()
    assert [when < now for when, _ in found.due] == [True, False, False, False, False, False]
    for _, identity in found.due:
        message = queue.load(identity)
        assert message.sender == SENDER.encode()
        assert [recipient.address.endswith(b"@sink.test") for recipient in message.recipients] == [True]
        assert abs(queue.octets(identity) - SIZE) < 100
