"""The parent's children: what it knows of each, and how a forked process becomes one."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import time
from dataclasses import dataclass, field

from . import log
from .broker import privilege
from .channel import Channel
from .config import Config
from .home import Home, Identities, Identity
from .messages import Ready
from .terms import Misuse, Refused, TryLater

FAREWELL_SECONDS = 10.0  # for workers and their nursery to end behind the broker: twice what the nursery gives them


@dataclass(eq=False, slots=True)
class Child:
    """One process of ours."""

    room: str  # "network", "broker" or "delivery"
    number: int
    pid: int = 0
    control: Channel[Ready] | None = None
    ready: bool = False
    started: float = field(default_factory=time.monotonic)
    restart_at: float | None = None

    @property
    def name(self) -> str:
        return f"{self.room}-{self.number}" if self.room == "network" else self.room


@dataclass(frozen=True, slots=True)
class Birth:
    """What a new process is given by its parent. `networks`: how many network processes there are."""

    home: Home
    config: Config
    identities: Identities
    networks: int
    crowd: mmap.mmap
    crowd_key: int = field(repr=False)
    first: bool  # the server starts: what is wrong with its files ends it; later it would only be logged

    def become(self, child: Child, control: socket.socket) -> None:
        """In the child: keep nothing of the parent's but the control channel, and never return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            log.close()
            os.setsid()  # no terminal of root's within reach of those who meet strangers
            own = control.detach()
            os.closerange(3, own)
            os.closerange(own + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            self._enter(child, socket.socket(fileno=own))
            status = 0
        except (Refused, TryLater, Misuse) as error:
            log.line("cannot-start", process=child.name, why=str(error))
        except BaseException as error:
            log.bug(error, where=child.name)
        finally:
            os._exit(status)

    def _enter(self, child: Child, control: socket.socket) -> None:
        log.configure(host=self.config.hostname, to=self.config.log.to, form=self.config.log.format)
        privilege.name_process(f"pbx-{child.name}")
        if child.room == "network":
            from .network import process

            _become(self.identities.network)
            process.main(control, child.number, self.crowd, self.networks, self.crowd_key)
        elif child.room == "broker":
            from .broker import monitor

            monitor.main(control, self.home, self.identities.mail, self.config if self.first else None)
        else:
            from .delivery import process as delivery

            delivery.preload()
            _become(self.identities.queue)
            delivery.main(control, self.home)


def _become(identity: Identity) -> None:
    if identity[0] is not None and identity[1] is not None:
        privilege.become(identity[0], identity[1])
    privilege.harden()


def adopt_orphans() -> set[int]:
    """From now on who loses its parent below us is our child. The children that there are by now, and that are not ours:
    who became this process may have made some (qmail-start's logger, which outlives us)."""
    privilege.adopt_orphans()
    return _own_children()


def _own_children() -> set[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}


def see_off(strangers: set[int]) -> None:
    """Wait until we have no children but those; kill whoever takes too long."""
    until = time.monotonic() + FAREWELL_SECONDS
    while left := _own_children() - strangers:
        for pid in left:
            if time.monotonic() > until:
                log.line("process-killed", process="orphan", pid=pid)
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0 if time.monotonic() > until else os.WNOHANG)
        time.sleep(0.01)
