"""Becoming somebody else, for a moment or for good. Each change of uid happens in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from pillarbox.broker import privilege
from pillarbox.terms import Refused

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
OTHER = 4242


def run(code: str) -> str:
    """What a fresh interpreter prints that runs this code."""
    head = "import os\nfrom pillarbox.broker import privilege\nfrom pillarbox.terms import Refused\n"
    result = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], check=False, text=True, capture_output=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_nothing_is_done_as_root() -> None:
    with pytest.raises(Refused, match="root"), privilege.as_user(0, 0):
        pytest.fail("acted as root")
    for uid, gid in ((0, 0), (0, OTHER), (OTHER, 0)):
        with pytest.raises(Refused, match="root"):
            privilege.become(uid, gid)


def test_an_ordinary_user_may_be_itself_and_nobody_else() -> None:
    printed = run(f"""
        if os.geteuid() == 0:
            privilege.become({OTHER}, {OTHER})
        uid, gid = os.geteuid(), os.getegid()
        privilege.become(uid, gid)
        with privilege.as_user(uid, gid):
            print(os.geteuid() == uid)
        def act():
            with privilege.as_user(uid + 1, gid):
                print("acted")
        for attempt in (act, lambda: privilege.become(uid + 1, gid)):
            try:
                attempt()
            except Refused as error:
                print(error.why)
    """)
    assert printed.splitlines()[0] == "True"
    assert [line[:12] for line in printed.splitlines()[1:]] == ["only root ca", "only root ca"]


@pytest.mark.root
@needs_root
def test_a_moment_as_somebody_else() -> None:
    printed = run(f"""
        def identity():
            return os.geteuid(), os.getegid(), os.getgroups()
        os.setgroups([0, 5])
        before = identity()
        with privilege.as_user({OTHER}, {OTHER + 1}):
            print(identity())
        print(identity() == before)
        try:
            with privilege.as_user({OTHER}, {OTHER}):
                raise OSError("amid")
        except OSError:
            print(identity() == before)
    """)
    assert printed.splitlines() == [f"({OTHER}, {OTHER + 1}, [{OTHER + 1}])", "True", "True"]


@pytest.mark.root
@needs_root
def test_somebody_else_for_good() -> None:
    printed = run(f"""
        privilege.become({OTHER}, {OTHER + 1}, [{OTHER + 1}, {OTHER + 2}])
        print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))
        for way_back in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
            try:
                way_back()
                print("open")
            except PermissionError:
                print("shut")
    """)
    uids, gids, groups = (OTHER,) * 3, (OTHER + 1,) * 3, [OTHER + 1, OTHER + 2]
    assert printed.splitlines() == [f"{uids} {gids} {groups}", *["shut"] * 4]


@pytest.mark.root
@needs_root
def test_without_a_list_the_users_own_group_is_the_only_one() -> None:
    assert run(f"privilege.become({OTHER}, {OTHER + 1}); print(os.getgroups())") == f"[{OTHER + 1}]"


@pytest.mark.root
@needs_root
def test_an_effective_uid_is_not_enough_to_stay() -> None:
    """Who was set to a user's euid only, with root saved, still gives root away."""
    printed = run(f"""
        os.setegid({OTHER}); os.seteuid({OTHER})
        try:
            privilege.become({OTHER}, {OTHER})
        except Refused as error:
            print(error.why)
    """)
    assert printed == f"only root can become uid {OTHER}"


def test_a_way_back_that_is_open_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("setgroups", "setresgid", "setresuid", "setuid"):
        monkeypatch.setattr(os, name, lambda *arguments: None)
    monkeypatch.setattr(os, "getresgid", lambda: (OTHER,) * 3)
    asked = iter([(0, 0, 0), (OTHER,) * 3])
    monkeypatch.setattr(os, "getresuid", lambda: next(asked))
    with pytest.raises(SystemExit, match="way back"):
        privilege.become(OTHER, OTHER)


def test_a_hardened_process_dumps_no_core_and_gains_nothing_by_exec() -> None:
    printed = run("""
        import ctypes, resource
        privilege.harden()
        prctl = ctypes.CDLL(None).prctl
        print(prctl(3, 0, 0, 0, 0), prctl(39, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
    """)
    assert printed == "0 1 (0, 0)"  # PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS


def test_the_classic_programs_start_without_more_than_the_standard_library() -> None:
    printed = run("""
        import sys
        from pillarbox.store import passwd, secrets
        print(sorted(name for name in ("asyncio", "ctypes", "cryptography", "msgspec", "uvloop") if name in sys.modules))
    """)
    assert printed == "[]"
