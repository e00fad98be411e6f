"""What TLS is spoken with."""

from __future__ import annotations

from msgspec import Struct


class KeyPair(Struct, frozen=True, array_like=True):
    """A certificate with its chain, leaf first, and its private key, both PEM. `names`: the DNS names it is for."""

    certificate: bytes
    key: bytes
    names: tuple[str, ...]
    end_point: bytes = b""  # the channel binding tls-server-end-point (RFC 5929); empty: it has none

    def __repr__(self) -> str:
        return f"KeyPair(names={self.names!r}, key=***)"
