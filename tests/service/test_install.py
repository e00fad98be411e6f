"""`pillarbox service install`: what it writes, what it leaves alone, and that other programs can read it."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from pillarbox import cli
from pillarbox.commands import service

from ..system_users import open_folder, ordinary

WAYS = [pytest.param(kind, chain, id=f"{kind}{'-chain' * chain}") for kind, chain in service.FILES]
SCRIPTS = sorted(service.SOURCES.glob("*.sh"))


def install(root: Path, kind: str, chain: bool, *more: str) -> int:
    return cli.run(["service", "install", f"--{kind}", *(["--chain"] * chain), "--root", str(root), *more])


def written(root: Path) -> dict[str, str]:
    return {f"/{path.relative_to(root)}": path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("kind", "chain"), WAYS)
def test_files_are_written_once(kind: str, chain: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tmp_path, kind, chain) == 0
    files = service.FILES[kind, chain]
    assert set(written(tmp_path)) == {file.path for file in files}
    for file in files:
        path = tmp_path / file.path.lstrip("/")
        assert path.stat().st_mode & 0o7777 == file.mode
        assert service.MARK in path.read_text().replace("once by", "by")
    first = capsys.readouterr().out
    assert first.count(" written\n") == len(files)
    assert first.endswith(f"next: {service.NEXT[kind, chain]}\n")
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}
    assert install(tmp_path, kind, chain) == 0
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before
    assert capsys.readouterr().out.count(" is there already\n") == len(files)


@pytest.mark.parametrize(("kind", "chain"), WAYS)
def test_no_place_is_left_open(kind: str, chain: bool, tmp_path: Path) -> None:
    install(tmp_path, kind, chain, "--home", "/srv/mail-home", "--programs", "/opt/names")
    text = "".join(written(tmp_path).values())
    assert "@PILLARBOX@" not in text and "@HOME@" not in text and "@PROGRAMS@" not in text
    assert "/srv/mail-home" in text
    assert ("/opt/names" in text) == chain
    assert (os.path.join(sysconfig.get_path("scripts"), "pillarbox") in text) != chain


@pytest.mark.parametrize("foreign", ["file", "link", "folder"])
def test_what_is_not_ours_stays_and_nothing_is_half_done(foreign: str, tmp_path: Path) -> None:
    path = tmp_path / "etc/init.d/pillarbox-chain"
    path.parent.mkdir(parents=True)
    if foreign == "file":
        path.write_text("#!/bin/sh\n# another's\n")
    elif foreign == "link":
        path.symlink_to("elsewhere")
    else:
        path.mkdir()
    state = os.lstat(path)
    assert install(tmp_path, "init", True) == 1
    assert os.lstat(path) == state
    assert [each for each in tmp_path.rglob("*") if each.is_file() and each != path] == []


def test_an_older_file_of_ours_is_replaced_but_settings_are_kept(tmp_path: Path) -> None:
    install(tmp_path, "init", True)
    script, settings = tmp_path / "etc/init.d/pillarbox-chain", tmp_path / "etc/default/pillarbox-chain"
    script.write_text(f"#!/bin/sh\n{service.MARK} of last year\n")
    settings.write_text("GRACE=3\n")
    assert install(tmp_path, "init", True) == 0
    assert "GRACE" in script.read_text()
    assert settings.read_text() == "GRACE=3\n"


def test_an_ordinary_user_hears_that_root_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with open_folder() as root:
        (root / "usr").mkdir()
        (root / "usr").chmod(0o555)
        with ordinary():
            assert install(root, "init", True) == 1
        assert capsys.readouterr().err == f"pillarbox: {root}/usr can't be written: run this as root\n"
        assert written(root) == {}


@pytest.mark.parametrize("ways", [[], ["--init", "--systemd"]])
def test_one_way_must_be_said(ways: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["service", "install", *ways, "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "pillarbox: say either --systemd or --init\n"


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a%b", "a\nb", 'a"b'])
def test_a_path_that_would_need_quotes_is_refused(name: str, tmp_path: Path) -> None:
    assert install(tmp_path, "systemd", False, "--home", f"/srv/{name}") == 1
    assert written(tmp_path) == {}


def test_printing_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tmp_path, "systemd", True, "--print") == 0
    out = capsys.readouterr().out
    assert all(f"#### {file.path}\n" in out for file in service.FILES["systemd", True])
    assert written(tmp_path) == {}


def test_root_is_warned_of_a_program_that_others_can_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "names"
    names.mkdir()
    names.chmod(0o777)
    install(tmp_path / "root", "init", True, "--programs", str(names))
    assert f"others than root can change what root will start here: {names}" in capsys.readouterr().err


# What other programs say of it.


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_plain_sh(script: Path) -> None:
    """Debian's /bin/sh is dash, which knows nothing of bash's."""
    subprocess.run(["/bin/sh", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        _missing("shellcheck")
    done = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("chain", [False, True])
def test_systemd_takes_the_units(chain: bool, tmp_path: Path) -> None:
    install(tmp_path, "systemd", chain)
    units = sorted((tmp_path / service.UNITS.lstrip("/")).iterdir())
    if shutil.which("systemd-analyze") is None:
        _missing("systemd")
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(command, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "pillarbox-chain is not executable" not in line]
    assert complaints == []


def test_what_was_disabled_stays_so_until_all_is_enabled_again(tmp_path: Path) -> None:
    """The chain's target starts what is linked below it, and nothing else."""
    install(tmp_path, "systemd", True)
    if shutil.which("systemctl") is None:
        _missing("systemd")
    links = tmp_path / service.UNITS.lstrip("/") / "pillarbox-chain.target.wants"
    parts = {"pillarbox-pop3.service", "pillarbox-smtp.service", "pillarbox-deliver.service", "pillarbox-age.timer"}
    systemctl(tmp_path, "enable", "pillarbox-chain.target")
    assert set(os.listdir(links)) == parts
    systemctl(tmp_path, "disable", "pillarbox-pop3")
    assert set(os.listdir(links)) == parts - {"pillarbox-pop3.service"}
    assert "Wants=" not in (links.parent / "pillarbox-chain.target").read_text()
    systemctl(tmp_path, "disable", "pillarbox-chain.target")
    assert [path for path in links.parent.rglob("*") if path.is_symlink()] == []


def systemctl(root: Path, *words: str) -> None:
    subprocess.run(["systemctl", f"--root={root}", *words], check=True, capture_output=True)


def _missing(package: str) -> None:
    reason = f"not installed: {package}"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def unit(path: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser["Service"]


def test_units_of_the_chain_start_what_the_script_knows(tmp_path: Path) -> None:
    install(tmp_path, "systemd", True)
    script = (tmp_path / "usr/local/sbin/pillarbox-chain").read_text()
    for path in (tmp_path / service.UNITS.lstrip("/")).glob("*.service"):
        program, chain = shlex.split(unit(path)["ExecStart"])
        assert program == "/usr/local/sbin/pillarbox-chain"
        assert f"\n{chain}() {{\n" in script and f"\nneed_{chain}() {{\n" in script


def test_the_unit_stops_the_parent_first_and_waits_longer_than_stop_does(tmp_path: Path) -> None:
    install(tmp_path, "systemd", False)
    daemon = unit(tmp_path / "etc/systemd/system/pillarbox.service")
    assert daemon["KillMode"] == "mixed"
    assert int(daemon["TimeoutStopSec"]) > cli.STOP_SECONDS
    assert shlex.split(daemon["ExecReload"])[1:] == ["reload", "--home", "/var/lib/pillarbox"]
