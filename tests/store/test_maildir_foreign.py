"""Whatever other programs do to a Maildir: the cached way, the way by the index and a fresh look agree."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pillarbox.store.maildir import Maildrops
from pillarbox.store.maildir_scan import scan
from pillarbox.wire_form import ENDED, survey

from .maildirs import Maildir, content, entries, uidls

stems = st.sampled_from(
    [
        *("1.a{n}", "1.b{n}", "10.e{n}", "0.{n}", "1795491907.f{n}", "plain{n}", "sp ace{n}", "z" * 71 + "{n}"),
        *("2.c{n},{sizes}", "3.d{n},S=6", "3.lie{n},S=1,W=2"),
    ]
)
messages = st.sampled_from([b"", b"hello\n", b"hello\r\n", b"\r", b"a\n.b\nc", b"x" * 300])


def as_dovecot_writes(message: bytes) -> str:
    wire = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return f"S={len(message)},W={len(wire)}"


class Foreign(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.maildir = Maildir(Path(self.folder) / "Maildir")
        self.maildrops = Maildrops()
        self.marks = iter(range(10**9))
        self.stored: dict[str, bytes] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _put(self, file: str, message: bytes) -> None:
        self.maildir.put(file, message)
        mtime = 2 + len(self.stored) % 3
        os.utime(self.maildir.path / file, (mtime, mtime))
        self.stored[file] = message

    def _pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.stored)))

    @rule(stem=stems, message=messages)
    def deliver(self, stem: str, message: bytes) -> None:
        """No name is ever used again, except by twins."""
        self._put("new/" + stem.format(n=next(self.marks), sizes=as_dovecot_writes(message)), message)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        """A base name stands for one content for ever; but there may be two files of it."""
        file = self._pick(data)
        twin = f"cur/{file[4:].partition(':')[0]}:2,T{next(self.marks)}"
        shutil.copy2(self.maildir.path / file, self.maildir.path / twin)
        self.stored[twin] = self.stored[file]

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def mark(self, data: st.DataObject) -> None:
        file = self._pick(data)
        to = f"cur/{file[4:].partition(':')[0]}:2,S{next(self.marks)}"
        self.maildir.move(file, to)
        self.stored[to] = self.stored.pop(file)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        file = self._pick(data)
        self.maildir.remove(file)
        del self.stored[file]

    @rule(folder=st.sampled_from(["new", "cur"]))
    def set_the_clock_back(self, folder: str) -> None:
        os.utime(self.maildir.path / folder, (1, 1))

    @rule()
    def forget_all_but_the_index(self) -> None:
        self.maildrops = Maildrops()

    @rule()
    def wait(self) -> None:
        self.maildir.settle()
        self.maildrops.load(str(self.maildir.path))

    @invariant()
    def all_ways_agree(self) -> None:
        path = str(self.maildir.path)
        drop = self.maildrops.unchanged(path) or self.maildrops.load(path)
        fresh = scan(os.fsencode(path))
        count = drop.listing().count
        assert count == len(self.stored)
        assert entries(drop.listing()) == entries(fresh.listing)
        assert len(set(uidls(drop))) == count
        assert sorted(drop.scan.files.all()) == sorted(os.fsencode(file) for file in self.stored)
        for number in range(1, count + 1):
            message = self.stored[os.fsdecode(drop.scan.files[number])]
            octets, form = survey((message,))
            assert content(drop, number) == message
            assert drop.listing().size(number) == octets
            assert drop.listing().form(number) in (form, form & ENDED)


@pytest.fixture(autouse=True)
def _every_index_is_worthwhile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("pillarbox.store.maildir_index.WORTH_MESSAGES", 1)
    yield


TestForeign = Foreign.TestCase
TestForeign.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
