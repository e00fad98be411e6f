"""Debian's Postfix as the final exchanger for postfix.test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from bench import postfix as installation

from .certificates import Certificate
from .exchanger import Exchanger, mail_folder
from .packages import unpacked
from .ports import HOST, free_port
from .processes import folder, running

DOMAIN, NAME = "postfix.test", "mx.postfix.test"
LOCALS = ("alice", "bob", "carol", "dörte")


@contextlib.contextmanager
def postfix(
    *,
    host: str = HOST,
    port: int = 0,
    certificate: Certificate | None = None,
    smtputf8: bool = True,
    without: Sequence[str] = (),
    message_octets: int = 0,
) -> Iterator[Exchanger]:
    """It has a mailbox for each of LOCALS, and 550 for others. Skips where it can't start.

    `certificate`: it offers STARTTLS. `without`: EHLO keywords that it does not offer (8BITMIME, PIPELINING, DSN, ...).
    `message_octets`: its limit, 0 for none.
    """
    root = unpacked("postfix")
    with folder() as place:
        mail = mail_folder(place)
        port = port or free_port(host)
        installation.configure(
            place,
            root,
            host,
            port,
            {
                "myhostname": NAME,
                "mynetworks": "",
                "smtpd_relay_restrictions": "reject_unauth_destination",
                "smtputf8_enable": "yes" if smtputf8 else "no",
                "smtpd_discard_ehlo_keywords": " ".join(without),
                "message_size_limit": str(message_octets),
                **installation.virtual(place, DOMAIN, mail, LOCALS),
                **(_tls(certificate) if certificate else {}),
            },
        )
        log = place / "log"
        with running(installation.command(place, root), (host, port), log, installation.environment(place, root)):
            yield Exchanger(host, port, DOMAIN, mail, log)


def _tls(certificate: Certificate) -> dict[str, str]:
    return {
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": str(certificate.chain),
        "smtpd_tls_received_header": "yes",
        "smtpd_tls_loglevel": "1",
    }
