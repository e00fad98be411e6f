"""tcpserver's rules for SMTP, as tcprules reads them: what has no place here is told, rule by rule."""

from __future__ import annotations

import os

from ..store.control import Controls
from ..terms import Refused
from .qmail_control import texts
from .qmail_translation import Left, left


def rules(path: str) -> list[Left]:
    """ADDRESS:allow or deny, then VARIABLE="value" behind commas. Raises Refused, and TryLater where it can't be read."""
    if path.endswith(".cdb"):
        raise Refused(f"{path} is compiled: name the text that it was made from")
    folder, name = os.path.split(os.path.abspath(path))
    lines = Controls(folder).lines(name)
    if lines is None:
        raise Refused(f"{path} is not there")
    return [report for line in texts(lines) for report in _rule(path, line)]


def _rule(path: str, line: str) -> list[Left]:
    verdict, *variables = line.partition(":")[2].split(",")
    found = [left(path, line, *_variable(variable)) for variable in variables if variable]
    if verdict == "deny":
        found.append(left(path, line, "it is not refused here: there are no such rules", "refuse it in the firewall"))
    return found


def _variable(text: str) -> tuple[str, str]:
    if text.startswith("RELAYCLIENT="):
        why = "no network may relay by its address alone"
        return why, "log in on `listen.submission`, or fetch by POP3 first (`[relay]`); programs here: `sendmail`"
    return "it sets a variable for qmail-smtpd, which does not run here", "look for a key of ours"
