"""/etc/init.d/pillarbox, really run: start, stop, and what an admin does by mistake."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.testing import server

from .machine import Machine, end, free_port, greeting, pids_with

pytestmark = pytest.mark.root


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-service-"))
    folder.chmod(0o755)  # processes that gave root's uid away must reach the home
    machine = Machine.installed(folder)
    machine.settings("pillarbox", PILLARBOX_HOME=folder / "home", LOG=folder / "log")
    configure(machine, free_port(), free_port())
    yield machine
    end(pids_with(str(folder / "home")))
    shutil.rmtree(folder)


def configure(machine: Machine, pop3: int, smtp: int) -> None:
    home = machine.folder / "home"
    home.mkdir(mode=0o711, exist_ok=True)
    (home / "pillarbox.toml").write_text(
        f'[listen]\npop3 = ["127.0.0.1:{pop3}"]\nsmtp = ["127.0.0.1:{smtp}"]\nsubmission = []\n'
        "pop3s = []\nsubmissions = []\n"
        "[processes]\nnetwork = 1\ngrace = 1.0\n"
    )


def test_the_whole_life_of_a_service(machine: Machine) -> None:
    pop3, other = free_port(), free_port()
    configure(machine, pop3, free_port())
    assert machine.service("pillarbox", "status").returncode == 3
    started = machine.service("pillarbox", "start")
    assert (started.returncode, started.stdout) == (0, f"pillarbox: started on {machine.folder}/home\n")
    assert greeting(pop3).startswith(b"+OK ")
    assert machine.service("pillarbox", "status").returncode == 0
    again = machine.service("pillarbox", "start")
    assert again.returncode == 1 and "it runs already" in again.stdout

    configure(machine, other, free_port())
    reloaded = machine.service("pillarbox", "reload")
    assert reloaded.returncode == 0, reloaded.stdout
    assert greeting(other).startswith(b"+OK ") and greeting(pop3) == b""

    stopped = machine.service("pillarbox", "stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"the server on {machine.folder}/home has ended\n")
    assert pids_with(str(machine.folder / "home")) == []
    assert machine.service("pillarbox", "status").returncode == 3
    once_more = machine.service("pillarbox", "stop")
    assert (once_more.returncode, once_more.stdout) == (0, f"pillarbox: it does not run on {machine.folder}/home\n")
    assert machine.service("pillarbox", "reload").returncode == 7


def test_a_start_that_fails_says_why(machine: Machine) -> None:
    (machine.folder / "home/pillarbox.toml").write_text("[listen]\npop4 = []\n")
    failed = machine.service("pillarbox", "start")
    assert failed.returncode == 1
    assert "pop4" in failed.stdout and "it did not start" in failed.stdout


def test_another_server_is_left_alone(machine: Machine) -> None:
    with server() as unrelated:
        assert machine.service("pillarbox", "start").returncode == 0
        assert machine.service("pillarbox", "stop").returncode == 0
        assert greeting(unrelated.pop3_port).startswith(b"+OK ")


def test_restart_under_load(machine: Machine) -> None:
    pop3 = free_port()
    configure(machine, pop3, free_port())
    assert machine.service("pillarbox", "start").returncode == 0
    before, over = set(pids_with(str(machine.folder / "home"))), threading.Event()
    counts = [0] * 4

    def load(number: int) -> None:
        while not over.is_set():
            counts[number] += greeting(pop3).startswith(b"+OK ")

    threads = [threading.Thread(target=load, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    restarted = machine.service("pillarbox", "restart")
    seen = sum(counts)
    while restarted.returncode == 0 and sum(counts) < seen + 20:
        over.wait(0.02)
    over.set()
    for thread in threads:
        thread.join()
    assert restarted.returncode == 0, restarted.stdout
    after = set(pids_with(str(machine.folder / "home")))
    assert after and not after & before
    assert machine.service("pillarbox", "stop").returncode == 0


def test_a_word_that_it_does_not_know(machine: Machine) -> None:
    done = machine.service("pillarbox", "begin")
    assert done.returncode == 2 and "usage:" in done.stdout
