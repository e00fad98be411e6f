"""A local account and a user of this system that have one name: whose mail is it?"""

from __future__ import annotations

from .. import config
from ..broker.privilege import as_user
from ..home import Home
from ..store.passwd import PasswdAccounts
from ..terminal import command


def namesake(home: Home, account: str) -> str:
    """What to tell of a system user that has this local account's name; empty: nothing. Raises Refused and TryLater."""
    settings = config.load(home.config)
    sources = settings.accounts.source
    if "passwd" not in sources:
        return ""
    user = PasswdAccounts(settings.accounts.password_file, settings.domains, as_user).find(account)
    if user is None:
        return ""
    name = account.partition("@")[0]
    if sources.index("passwd") < sources.index("local"):
        return f"the system user {name} goes before this account in `accounts.source`: nobody can use it"
    return (
        f"this account goes before the system user {name}, whose logins and mail, {user.maildir}, it replaces;"
        f" `{command()} account remove {account}{home.option}` undoes that"
    )
