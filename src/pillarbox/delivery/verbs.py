"""What a person may do to the running queue, and to the broker's brakes (see control)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ..messages_delivery import Brake
from ..terms import TryLater
from .questions import Broker
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


def brake_verbs(broker: Callable[[], Broker | None]) -> Mapping[str, Callable[[str], Awaitable[str]]]:
    """Likewise; the broker is asked. The argument is an address, an account, or nothing."""

    async def ask(verb: str, argument: str) -> str:
        neighbour = broker()
        if neighbour is None:
            raise TryLater("the broker is not there just now, try again")
        return str((await neighbour.ask(lambda number: Brake(number, verb, argument))).text)

    async def show(argument: str) -> str:
        return await ask("show", argument)

    async def clear(argument: str) -> str:
        return await ask("clear", argument)

    return {"throttle-show": show, "throttle-clear": clear}


def _counted(messages: int) -> str:
    return "1 message is tried now" if messages == 1 else f"{messages} messages are tried now"
