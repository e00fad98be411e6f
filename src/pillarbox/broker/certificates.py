"""The certificates that TLS is spoken with: read here, watched, and passed on to the network processes, which own no file.

The broker keeps them because it keeps the other secrets, and may still read what only root can.
"""

from __future__ import annotations

import os

from .. import log, messages
from ..config import Config, key_files
from ..home import Home
from ..key_pair import KeyPair
from ..protocol.scram import end_point
from ..store import certificates
from ..store.certificates import Pair, Signature
from ..terms import Refused, TryLater

WATCH_SECONDS = 2.0  # between two looks at the files


def configured(config: Config) -> list[tuple[str, str]]:
    """Each certificate's file with its key's; none where we make one ourselves."""
    return key_files(config.tls.certificate, config.tls.key)


def load_all(home: Home, config: Config) -> list[Pair]:
    """Those that are configured, else our own. Raises Refused, which names file and key."""
    given = configured(config)
    try:
        return [certificates.load(*pair) for pair in given or [certificates.own_files(home.tls)]]
    except Refused as error:
        if given:
            raise Refused(f"{home.config}: `tls.{error.code}`: {error.why}") from None
        raise Refused(f"{error.why}; move {home.tls} away, and the next start makes a new certificate") from None


class Certificates:
    """Those that are served. One that is wrong never takes the place of one that works."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._config: Config | None = None
        self._pairs: list[Pair] = []
        self._tried: Signature | None = None  # the files as they were when they were last loaded, or refused
        self._seen: Signature | None = None  # as they were at the last look

    @property
    def message(self) -> messages.Certificates:
        """For a network process."""
        return messages.Certificates(
            tuple(KeyPair(pair.chain, pair.key, pair.names, end_point(*pair.signed)) for pair in self._pairs)
        )

    def check(self, config: Config) -> None:
        """At the start of the server, where what is wrong is an error. Raises Refused and TryLater."""
        self._config = config
        if not configured(config) and not all(map(os.path.exists, certificates.own_files(self._home.tls))):
            certificates.make_own(self._home.tls, config.hostname)
            log.line("certificate-made", folder=self._home.tls)
        self._take(load_all(self._home, config))

    def configure(self, config: Config) -> bool:
        """A configuration, perhaps another one: are there certificates to pass on?"""
        if self._config is not None and self._config.tls == config.tls:
            return False
        try:
            self.check(config)
        except (Refused, TryLater) as error:
            self._refuse(error.why)
            return False
        return True

    def look(self) -> bool:
        """Have the files changed? They are read once they have been still from one look to the next: they are two."""
        if self._config is None:
            return False
        seen, self._seen = self._seen, self._signature()
        if self._seen == self._tried or self._seen != seen:
            return False
        try:
            self._take(load_all(self._home, self._config))
        except Refused as error:
            self._refuse(error.why)
            return False
        return True

    def _signature(self) -> Signature:
        assert self._config is not None
        paths = configured(self._config) or [certificates.own_files(self._home.tls)]
        return certificates.signature([path for pair in paths for path in pair])

    def _take(self, pairs: list[Pair]) -> None:
        self._pairs = pairs
        self._tried = self._seen = self._signature()
        for pair in pairs:
            log.line(
                "certificate",
                names=",".join(pair.names),
                until=f"{pair.leaf.not_valid_after_utc:%Y-%m-%d}",
                sha256=pair.fingerprint,
            )

    def _refuse(self, why: str) -> None:
        self._tried = self._seen = self._signature()
        log.line("certificate-refused", why=why, kept=len(self._pairs))
