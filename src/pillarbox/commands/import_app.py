"""`pillarbox import`: the configuration of another mail host, as a pillarbox.toml that does the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from ..config_values import toml_key, toml_value
from ..store.files import replace_file
from ..terminal import say
from ..terms import Refused
from .qmail_control import translate
from .qmail_rules import grants, rules
from .qmail_translation import Carried, Left, Translation
from .qmail_users import Users, obstacles

LEFT_BEHIND = 1  # exit status: something that counts was not carried over
RELAY_CTRL = "/etc/relay-ctrl"

app = App(name="import", help="Carry the configuration of another mail host over.")


@app.command(usage="Usage: pillarbox import qmail [DIR] [OPTIONS]")
def qmail(
    directory: Annotated[str, Parameter(name="DIR")] = "/var/qmail",
    /,
    *,
    write: Annotated[str, Parameter("--write", metavar="FILE", show_default=False)] = "",
    force: Annotated[bool, Parameter("--force", negative=(), show_default=False)] = False,
    tcp_rules: Annotated[str, Parameter("--tcp-rules", metavar="FILE", show_default=False)] = "",
    relay_ctrl: Annotated[str, Parameter("--relay-ctrl", metavar="DIR")] = RELAY_CTRL,
    beside: Annotated[bool, Parameter("--beside", negative=(), show_default=False)] = False,
) -> int:
    """Print the pillarbox.toml that does what the qmail in DIR does, and tell what could not be carried over.

    That is told on standard error: file, value, why, and what to do. The .qmail files of all users are looked at too, each
    as its user, which root alone can do for all. Exit status 1: something that counts was not carried over.

    Parameters
    ----------
    write
        Write the configuration there instead.
    force
        Overwrite that file.
    tcp_rules
        Go on with tcpserver's rules for SMTP: what tcprules made, such as /etc/tcp.smtp.cdb, or its source beside it.
    relay_ctrl
        relay-ctrl's variables, a file each; where there are some, its grants go on to count.
    beside
        Listen on ports of 127.0.0.1 that the old servers leave free, to run and test the daemon beside them.
    """
    if write and not force and os.path.lexists(write):
        raise Refused(f"{write} is there already; --force overwrites it")
    if not os.path.isdir(f"{directory}/control"):
        raise Refused(f"{directory}/control is no folder: name the one that qmail lies in, such as /var/qmail")
    users = Users.of_this_system()
    found = translate(directory, users, beside=beside)
    if tcp_rules:
        rules(found, tcp_rules)
    grants(found, relay_ctrl)
    left = found.left + obstacles(users, found.domains[0])
    text = as_toml(found)
    if write:
        replace_file(os.path.abspath(write), text.encode())
        say(f"{write} is written")
    else:
        print(text, end="", flush=True)
    _tell(left)
    return LEFT_BEHIND if any(one.counts for one in left) else 0


def as_toml(found: Translation) -> str:
    """The keys, each under a comment that names its source; tables follow the keys that stand in none."""
    tables: dict[str, list[Carried]] = {"": []}
    for one in found.carried:
        tables.setdefault(one.key.rpartition(".")[0], []).append(one)
    lines = [f"# From the qmail in {found.folder}, by `pillarbox import qmail`."]
    for table, some in tables.items():
        lines += ["", f"[{table}]"] if table else [""]
        for one in some:
            lines += [f"# {one.source}", f"{toml_key(one.key.rpartition('.')[2])} = {toml_value(one.value)}"]
    return "\n".join(lines) + "\n"


def _tell(left: Sequence[Left]) -> None:
    """Beside the configuration, which may go into a file; what counts comes first."""
    for counts, head in (
        (True, "Not carried over, and it counts:"),
        (False, "Not carried over, or not quite the same:"),
    ):
        some = [one for one in left if one.counts is counts]
        if some:
            print(f"\n{head}", file=sys.stderr)
        for one in some:
            value = f": {one.value}" if one.value else ""
            print(f"  {one.file}{value}\n      why: {one.why}\n      do:  {one.do}", file=sys.stderr)


app.command(
    "pillarbox.commands.import_passwd:passwd", name="passwd", help="Seal the secrets in system users' password files."
)
