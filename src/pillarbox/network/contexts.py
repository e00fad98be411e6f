"""What TLS is spoken with: versions, ciphers, and the certificate for the name that the client asks for (SNI).

Mozilla's intermediate configuration 5.7, without the DHE ciphers: nothing that speaks TLS 1.2 needs them any more.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from ..key_pair import KeyPair

CIPHERS = ":".join(
    f"ECDHE-{kind}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for kind in ("ECDSA", "RSA")
)
ALPN = {"pop3": ("pop3",), "smtp": ()}  # as IANA registers them (RFC 7301); SMTP has none


class Context(ssl.SSLContext):
    """That of one certificate."""

    end_point = b""  # the channel binding tls-server-end-point


def contexts(pairs: Sequence[KeyPair]) -> dict[str, ssl.SSLContext]:
    """For "pop3" and "smtp"; nothing where there is no pair. Raises OSError for a pair that OpenSSL does not take."""
    if not pairs:
        return {}
    return {protocol: _with_names(pairs, names) for protocol, names in ALPN.items()}


def _with_names(pairs: Sequence[KeyPair], alpn: tuple[str, ...]) -> ssl.SSLContext:
    """The first pair serves whoever names none of ours: an old client names nobody."""
    made = [_context(pair, alpn) for pair in pairs]
    if len(made) == 1:
        return made[0]
    by_name: dict[str, ssl.SSLContext] = {}
    for pair, context in zip(pairs, made, strict=True):
        for name in pair.names:
            by_name.setdefault(name.lower(), context)

    def chosen(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None and (context := _served(name.lower(), by_name)):
            tls.context = context

    made[0].sni_callback = chosen
    return made[0]


def _served(name: str, by_name: dict[str, ssl.SSLContext]) -> ssl.SSLContext | None:
    """By that very name, else by a wildcard for its first label (RFC 6125 section 6.4.3)."""
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])


def _context(pair: KeyPair, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.end_point = pair.end_point
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # all are good: a phone knows which costs it least
    if alpn:
        context.set_alpn_protocols(list(alpn))
    _load(context, pair)
    return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Python reads certificates from named files alone, and we own none: a file in memory has a name in /proc."""
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", buffering=0, closefd=False) as file:
            for text in (pair.key, b"\n", pair.certificate):
                file.write(text)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
