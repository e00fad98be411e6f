"""The home folder: where it is, who may have it, and who runs on it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pillarbox import home
from pillarbox.config import Config, Users
from pillarbox.home import Home, Identities
from pillarbox.terms import Refused, TryLater

NOBODY = Identities((None, None), (None, None), (None, None))
ROOT = os.geteuid() == 0


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


# Where it is.


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLARBOX_HOME", "/somewhere/else")
    assert home.default_folder() == "/somewhere/else"


@pytest.mark.parametrize(
    ("uid", "data", "folder"),
    [
        (0, "/data", "/var/lib/pillarbox"),
        (1000, "/data", "/data/pillarbox"),
        (1000, "", "/people/me/.local/share/pillarbox"),
    ],
)
def test_without_it_the_folder_depends_on_who_we_are(
    uid: int, data: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PILLARBOX_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", data)
    monkeypatch.setenv("HOME", "/people/me")
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert home.default_folder() == folder


def test_a_user_without_a_home_is_led_to_no_folder_that_others_may_make(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PILLARBOX_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 64_253)
    monkeypatch.setattr(os, "getuid", lambda: 64_253)  # nobody has it
    assert home.default_folder() == "/var/lib/pillarbox"


def test_hints_name_a_home_that_is_not_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLARBOX_HOME", "/srv/mail")
    assert Home("/srv/mail").option == ""
    assert Home("/srv/my mail").option == " --home '/srv/my mail'"


# Making it.


def test_it_is_made_with_all_its_folders_closed_to_others(open_folder: Path) -> None:
    place = Home(f"{open_folder}/a/b/home")
    before = os.umask(0)
    try:
        place.prepare(NOBODY)
    finally:
        os.umask(before)
    assert mode(place.folder) == (0o711 if ROOT else 0o700)
    assert {mode(path) for path in (place.mail, place.queue, place.grants, place.run)} == {0o700}
    assert mode(f"{open_folder}/a") & 0o022 == 0
    place.prepare(NOBODY)  # again: nothing to do


def test_folders_that_stood_open_are_closed(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    place.prepare(NOBODY)
    os.chmod(place.mail, 0o755)
    place.prepare(NOBODY)
    assert mode(place.mail) == 0o700


def test_a_folder_with_only_a_configuration_is_a_home(open_folder: Path) -> None:
    (open_folder / "pillarbox.toml").write_text("")
    Home(str(open_folder)).prepare(NOBODY)


def test_a_folder_with_other_things_is_left_alone(open_folder: Path) -> None:
    (open_folder / "holiday.jpg").write_text("")
    with pytest.raises(Refused, match="holds other things"):
        Home(str(open_folder)).make()
    assert os.listdir(open_folder) == ["holiday.jpg"]


def test_a_link_is_not_followed(open_folder: Path) -> None:
    (open_folder / "real").mkdir()
    (open_folder / "link").symlink_to("real")
    with pytest.raises(Refused, match="is a link"):
        Home(f"{open_folder}/link").make()
    place = Home(f"{open_folder}/home")
    place.make()
    (open_folder / "home" / "mail").symlink_to("../real")
    with pytest.raises(Refused, match="is no folder"):
        place.prepare(NOBODY)


def test_a_folder_that_others_may_write_to_is_refused(open_folder: Path) -> None:
    (open_folder / "home").mkdir()
    (open_folder / "home").chmod(0o777)
    with pytest.raises(Refused, match="others may write"):
        Home(f"{open_folder}/home").make()


def test_a_file_in_its_place_is_refused(open_folder: Path) -> None:
    (open_folder / "home").write_text("")
    with pytest.raises(Refused, match="is no folder"):
        Home(f"{open_folder}/home").make()
    with pytest.raises(Refused, match="can't be made"):
        Home(f"{open_folder}/home/below").make()


# Whose it is.


def test_an_ordinary_user_keeps_one_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert Identities.of(Config()) == NOBODY


@pytest.mark.root
def test_root_gives_mail_and_queue_to_their_users(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    place.prepare(Identities.of(Config()))
    owners = [os.stat(path).st_uid for path in (place.folder, place.mail, place.queue, place.grants, place.run)]
    assert owners == [0, 61812, 61811, 0, 0]


@pytest.mark.root
def test_names_of_users_are_looked_up() -> None:
    found = Identities.of(Config(users=Users(network="nobody")))
    assert found.network[0] not in (0, None) and found.mail == (61812, 61812)
    with pytest.raises(Refused, match="no user nobody-of-that-name"):
        Identities.of(Config(users=Users(mail="nobody-of-that-name")))


@pytest.mark.root
def test_no_process_stays_root_and_strangers_meet_no_owner_of_mail() -> None:
    with pytest.raises(Refused, match="root"):
        Identities.of(Config(users=Users(mail="root")))
    with pytest.raises(Refused, match="meets strangers"):
        Identities.of(Config(users=Users(network=61812)))


@pytest.mark.root
def test_a_foreign_folder_is_not_taken_over(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    with pytest.raises(Refused, match="there is no home in"):
        place.must_be_ours()
    place.prepare(NOBODY)
    place.must_be_ours()
    os.chown(place.folder, 4242, 4242)
    for attempt in (place.make, place.must_be_ours):
        with pytest.raises(Refused, match="belongs to another user"):
            attempt()


@pytest.mark.root
def test_mail_of_another_uid_is_not_taken_over(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    place.prepare(Identities.of(Config()))
    Path(place.mail, "example.test").mkdir()
    with pytest.raises(Refused, match=r"belongs to uid 61812, not to 4242: chown -R 4242"):
        place.prepare(Identities.of(Config(users=Users(mail=4242))))


@pytest.mark.root
def test_a_home_that_the_mail_user_could_not_reach_is_refused(open_folder: Path) -> None:
    (open_folder / "closed").mkdir(mode=0o700)
    with pytest.raises(Refused, match="closed to others"):
        Home(f"{open_folder}/closed/home").prepare(Identities.of(Config()))


# Who runs on it.

HOLD = """
import sys
from pillarbox.home import Home
descriptor = Home(sys.argv[1]).lock()
print("held", flush=True)
sys.stdin.read()
"""


def holder(place: Home) -> subprocess.Popen[str]:
    """Another process that holds the lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, place.folder]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_nobody_runs_on_a_new_home(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    assert place.running() is None
    place.prepare(NOBODY)
    assert place.running() is None and place.read_status() is None


def test_one_server_runs_on_a_home_and_its_pid_is_known(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    with holder(place) as first:
        assert place.running() == first.pid
        with pytest.raises(TryLater, match=f"already \\(pid {first.pid}\\)"):
            place.lock()
        assert place.running() == first.pid  # asking, and failing, took nothing away
        first.communicate("")
    assert place.running() is None
    os.close(place.lock())


def test_the_lock_goes_with_its_process_however_it_ends(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    with holder(place) as first:
        first.kill()
        first.wait()
        assert place.running() is None


def test_the_lock_is_no_link(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    place.prepare(NOBODY)
    (open_folder / "victim").write_text("mine")
    Path(place.run, "lock").symlink_to(open_folder / "victim")
    with pytest.raises(Refused, match="lock"):
        place.lock()
    with pytest.raises(Refused, match="lock"):
        place.running()
    assert (open_folder / "victim").read_text() == "mine"


def test_the_status_is_whole_or_not_there(open_folder: Path) -> None:
    place = Home(f"{open_folder}/home")
    place.prepare(NOBODY)
    place.write_status({"pid": 1, "generation": 1})
    place.write_status({"pid": 1, "generation": 2})
    assert place.read_status() == {"pid": 1, "generation": 2}
    assert os.listdir(place.run) == ["status.json"]
    place.remove_status()
    place.remove_status()
    assert place.read_status() is None
