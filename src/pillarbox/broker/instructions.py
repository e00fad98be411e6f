"""A worker reads the .qmail files of its user: what they say about a recipient, and whether any rules it."""

from __future__ import annotations

from .. import log
from ..messages import Instruct, Instructed
from ..protocol import dot_qmail
from ..store.dot_qmail import find
from ..store.passwd import MAILDIR
from ..terms import TryLater

OWN = dot_qmail.Instructions((MAILDIR,))  # where no file says anything else


def instructed(question: Instruct, domain: str) -> Instructed:
    """The answer, from the disk; with obstacles it is one to try again later. `domain`: of addresses without one."""
    to = question.recipient.decode("utf-8", "replace")
    try:
        found = find(question.home, dot_qmail.names(question.extension), dot_qmail.FILE_LIMIT)
    except TryLater as error:
        log.line("dot-qmail-trouble", to=to, account=question.account, why=error.why)
        return Instructed(question.delivery, question.account, code=error.code or "4.3.0", text=error.why)
    if found is None and question.extension:
        return Instructed(question.delivery, question.account, code="5.1.1", text="no .qmail file rules that name")
    said = OWN
    if found is not None:
        said = dot_qmail.parse(found.content, home=question.home, domain=domain, forward_only=found.forward_only) or OWN
    if said.obstacles and found is not None:
        first = said.obstacles[0]
        why = f"line {first.line} of {question.home}/{found.name} can't be obeyed: {first.why}"
        log.line("dot-qmail-trouble", to=to, account=question.account, why=why)
        return Instructed(question.delivery, question.account, code="4.3.5", text=why)
    maildirs = tuple("" if maildir == MAILDIR else maildir for maildir in said.maildirs)
    return Instructed(question.delivery, question.account, maildirs, said.forwards)


def is_ruled(home: str, extension: str) -> bool:
    """Does any file rule names with that extension? One that can't be read does, until it can."""
    try:
        return find(home, dot_qmail.names(extension), dot_qmail.FILE_LIMIT) is not None
    except TryLater:
        return True
