"""What a person at the keyboard may do to a home."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pillarbox import administration
from pillarbox.config import Config
from pillarbox.home import Home
from pillarbox.store.accounts import full_name
from pillarbox.terms import Refused


def login_name(name: str) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", 1000, 1000, "", "/", "/bin/sh"))


@pytest.mark.parametrize(
    ("login", "account"),
    [
        ("alice", "alice"),
        ("Alice Smith", "alicesmith"),
        ("j\u00fcrgen", "jrgen"),
        ("\u3042", "me"),
        (".x", "me"),
        ("DOM\\al", "domal"),
    ],
)
def test_the_first_account_is_named_after_who_sits_here(
    login: str, account: str, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: login_name(login))
    home = Home(f"{open_folder}/home")
    name, secret = administration.first_account(home)
    assert name == f"{account}@localhost.localdomain" and full_name(name, Config().domains) == name
    assert secret is not None and administration.secret_of(home, name) == secret.encode()
    assert administration.first_account(home) == (name, None)


def test_who_has_no_name_is_me(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert administration.first_account(Home(f"{open_folder}/home"))[0] == "me@localhost.localdomain"


def test_the_show_passes_over_accounts_that_are_not_served(open_folder: Path) -> None:
    home = Home(f"{open_folder}/home")
    administration.first_account(home, "alice")
    Path(home.config).write_text('domains = ["new.test"]')
    name, secret = administration.first_account(home, "alice")
    assert name == "alice@new.test" and secret is not None
    assert administration.first_account(home) == (name, None)


def test_a_wrong_configuration_makes_no_home(open_folder: Path) -> None:
    (open_folder / "pillarbox.toml").write_text("nonsense = 1")
    with pytest.raises(Refused, match="nonsense"), administration.opened(Home(str(open_folder))):
        pass
    assert os.listdir(open_folder) == ["pillarbox.toml"]
