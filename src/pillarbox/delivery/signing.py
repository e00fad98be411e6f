"""Signs outgoing mail. Mail that can't be signed goes unsigned: a damaged key must hold nothing up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from .. import log
from ..protocol import dkim
from ..store import dkim_keys
from ..store.dkim_keys import Key
from ..terms import Refused

LOOK_SECONDS = 1.0

_State = tuple[tuple[str, int, int, int], ...]


class Signer:
    """Signs with the keys below a folder, which it reads again whenever they change. Safe in several threads.

    What is wrong with a key is logged once as `dkim-trouble`, until its file changes.
    """

    def __init__(self, folder: str, clock: Callable[[], float] = time.time) -> None:
        """`folder`: Home.dkim. It need not exist."""
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[_State, list[Key]]] = {}  # domains that have a folder
        self._closed = ""  # why the folder can't be read
        self._looked, self._holds = 0.0, False

    def holds_keys(self) -> bool:
        """Could any message be signed? It costs next to nothing to ask for each; a new key may be seen a second late."""
        now = self._clock()
        if not 0 <= now - self._looked < LOOK_SECONDS:
            self._looked, self._holds = now, bool(self._domains())
        return self._holds

    def sign(self, message: bytes) -> bytes:
        """DKIM-Signature fields in stored form, to stand before this message in stored form; empty where no key fits.

        A signature vouches for the From field. So the message must be one of our accounts' or our own; what a stranger
        sent and an alias leads elsewhere is not to be signed. And it must be sent exactly as it is here: whatever
        converts it comes first.
        """
        try:
            return self._sign(message)
        except Exception as error:  # whatever it is, the mail must go out
            log.bug(error, where="signing")
            return b""

    def _sign(self, message: bytes) -> bytes:
        try:
            fields, start = dkim.split(message)
        except dkim.Unsignable:
            return b""
        keys = self._keys_for(dkim.author_domain(fields) or "")
        if not keys:
            return b""
        names, body_hash, now = dkim.signed_names(fields), dkim.body_hash(message, start), self._clock()
        header = dkim.canonical_header(fields, names)
        signed = []
        for key in keys:
            field = dkim.unsigned_field(
                algorithm=key.algorithm,
                domain=key.domain,
                selector=key.selector,
                names=names,
                body_hash=body_hash,
                now=now,
            )
            signed.append(dkim.signed_field(field, _signature(key, dkim.digest(header, field))))
        return b"".join(signed)

    def _keys_for(self, author: str) -> list[Key]:
        """The keys of the nearest domain that has any, rsa first: there are verifiers that look no further."""
        held = self._domains() if author else []
        for domain in dkim.signing_domains(author):
            if domain in held and (keys := self._keys_of(domain)):
                return keys
        return []

    def _domains(self) -> list[str]:
        closed = ""
        try:
            return dkim_keys.domains(self._folder)
        except Refused as error:
            closed = error.why
            if closed != self._closed:
                log.line("dkim-trouble", why=closed)
            return []
        finally:
            self._closed = closed

    def _keys_of(self, domain: str) -> list[Key]:
        state = self._state(domain)
        with self._lock:
            known, keys = self._known.get(domain, (None, []))
            if known != state:
                keys = self._load(domain)
                self._known[domain] = state, keys
        return keys

    def _state(self, domain: str) -> _State:
        """What changes when a key is added, removed, replaced or repaired: name, inode, ctime and size of all files."""
        place = f"{self._folder}/{domain}"
        try:
            states = [(name, os.stat(f"{place}/{name}", follow_symlinks=False)) for name in sorted(os.listdir(place))]
        except OSError as error:
            return ((error.strerror or "", 0, 0, 0),)
        return tuple((name, state.st_ino, state.st_ctime_ns, state.st_size) for name, state in states)

    def _load(self, domain: str) -> list[Key]:
        keys = []
        try:
            selectors = dkim_keys.selectors(self._folder, domain)
        except Refused as error:
            log.line("dkim-trouble", domain=domain, why=error.why)
            return []
        for selector in selectors[-dkim_keys.LIMIT :]:  # names with a date: the latest
            try:
                keys.append(dkim_keys.load(self._folder, domain, selector))
            except Refused as error:
                log.line("dkim-trouble", domain=domain, selector=selector, why=error.why)
        return sorted(keys, key=lambda key: key.algorithm, reverse=True)


def _signature(key: Key, digest: bytes) -> bytes:
    """RFC 6376 section 3.3.1, RFC 8463 section 3."""
    if isinstance(key.private, RSAPrivateKey):
        return key.private.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
    return key.private.sign(digest)
