"""Who may connect, and who may relay, by files that tcprules made: read here, for the network processes read no file."""

from __future__ import annotations

import os

from .. import log
from ..config import Policy
from ..link import Link
from ..messages import Rules
from ..policy.tcprules import judge
from ..store import cdb

RELAYCLIENT = b"RELAYCLIENT"  # qmail-smtpd's: set and empty, the peer may relay

Stamp = tuple[int, ...]


class RuleFile:
    """The rules of one protocol, as they were when the file was last good."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self._path = ""
        self._stamp: Stamp = ()
        self._trouble = ""  # that the log was told of
        self._records: tuple[tuple[bytes, bytes], ...] | None = None
        self.found: dict[bytes, bytes] = {}

    def configure(self, path: str) -> bool:
        """False where there should be rules and there are none; the log has said why."""
        if path != self._path:
            self._path, self._stamp, self._trouble = path, (), ""
        if not path:
            self._records, self.found = None, {}
            return True
        self.changed()
        return not self._trouble

    def changed(self) -> bool:
        """Read the file if it is not the one that was read last. True: there are other rules now."""
        if not self._path:
            return False
        try:
            stamp = _stamp(os.stat(self._path))
            if stamp == self._stamp:
                return False
            records = cdb.all_records(self._path)
        except OSError as error:
            self._tell(error.strerror or str(error))
            self._stamp = ()
            return False
        self._stamp, self._trouble, self._records = stamp, "", records
        self.found = dict(reversed(records))  # the first of a key counts
        return True

    def _tell(self, why: str) -> None:
        """Once, and not at every look."""
        if why != self._trouble:
            self._trouble = why
            log.line("rules-refused", key=f"policy.rules_{self.protocol}", file=self._path, why=why)

    def message(self) -> Rules | None:
        return None if self._records is None else Rules(self.protocol, self._records)


def _stamp(state: os.stat_result) -> Stamp:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


class ConnectionRules:
    """Those of all protocols."""

    def __init__(self) -> None:
        self._smtp, self._pop3 = RuleFile("smtp"), RuleFile("pop3")

    def configure(self, policy: Policy) -> bool:
        """False where a file that is named can't be read; the log has said why."""
        return all([self._smtp.configure(policy.rules_smtp), self._pop3.configure(policy.rules_pop3)])

    def changed(self) -> bool:
        """Has a file been read anew?"""
        return any([self._smtp.changed(), self._pop3.changed()])

    def tell(self, link: Link) -> None:
        """A network process, of all that is known."""
        for file in (self._smtp, self._pop3):
            if message := file.message():
                link.send(message)

    def relays(self, peer: str) -> bool:
        """May this peer send to other hosts by the rules alone?"""
        if not self._smtp.found:
            return False
        verdict = judge(self._smtp.found.get, peer.encode("ascii", "replace"), None, None)
        return verdict.allowed and dict(verdict.variables).get(RELAYCLIENT) == b""
