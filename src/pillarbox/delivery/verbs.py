"""What a person may do to the running queue (see control)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from .remote import Remote
from .runner import Runner


def verbs(runner: Runner, remote: Remote) -> Mapping[str, Callable[[str], Awaitable[str]]]:
    """The verbs by name: each takes an id, or nothing, and returns what the person is told."""

    async def retry(identity: str) -> str:
        remote.forget_trouble()
        if not identity:
            return _counted(runner.retry_all())
        runner.retry(identity)
        return f"{identity} is tried now"

    async def flush(_: str) -> str:
        return await retry("")

    async def hold(identity: str) -> str:
        await runner.hold(identity)
        return f"{identity} is held"

    async def release(identity: str) -> str:
        await runner.release(identity)
        await retry(identity)
        return f"{identity} is released, and tried now"

    async def remove(identity: str) -> str:
        await runner.remove(identity)
        return f"{identity} is removed"

    return {"retry": retry, "flush": flush, "hold": hold, "release": release, "remove": remove}


def _counted(messages: int) -> str:
    return "1 message is tried now" if messages == 1 else f"{messages} messages are tried now"
