"""A worker reads the .qmail files of its user: what they say about a recipient, and whether any rules it."""

from __future__ import annotations

from ..messages import Instruct, Instructed
from ..protocol import dot_qmail
from ..store.dot_qmail import find
from ..store.passwd import MAILDIR
from ..terms import TryLater

OWN = dot_qmail.Instructions((MAILDIR,))  # where no file says anything else


def instructed(question: Instruct, domain: str) -> Instructed:
    """The answer, from the disk; with obstacles it is one to try again later. `domain`: of addresses without one."""
    number, account, home = question.delivery, question.account, question.home
    try:
        found = find(home, dot_qmail.names(question.extension), dot_qmail.FILE_LIMIT)
    except TryLater as error:
        return Instructed(number, account, code=error.code or "4.3.0", text=error.why)
    if found is None and question.extension:
        return Instructed(number, account, code="5.1.1", text="no .qmail file rules that name")
    said = OWN
    if found is not None:
        parsed = dot_qmail.parse(found.content, home=home, domain=domain, forward_only=found.forward_only)
        said = parsed or OWN
        if said.obstacles:
            first = said.obstacles[0]
            text = f"line {first.line} of {home}/{found.name} can't be obeyed: {first.why}"
            return Instructed(number, account, code="4.3.5", text=text)
    maildirs = tuple("" if maildir == MAILDIR else maildir for maildir in said.maildirs)
    return Instructed(number, account, maildirs, said.forwards)


def is_ruled(home: str, extension: str) -> bool:
    """Does any file rule names with that extension? One that can't be read does, until it can."""
    try:
        return find(home, dot_qmail.names(extension), dot_qmail.FILE_LIMIT) is not None
    except TryLater:
        return True
