"""Debian's OpenSMTPD as the final exchanger for opensmtpd.test, in mount and process namespaces of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.install import libraries

from .certificates import Certificate
from .exchanger import MAIL_UID, Exchanger, mail_folder
from .packages import unpacked
from .ports import HOST, free_port
from .processes import folder, running

DOMAIN, NAME = "opensmtpd.test", "mx.opensmtpd.test"
LOCALS = ("alice", "bob", "carol")

# Its paths are compiled in: what it finds there is ours. When the first process is killed, the kernel ends the others.
_START = """\
set -e
place=$1 root=$2
for pair in etc:/etc run:/run lib:/var/lib spool:/var/spool libexec:/usr/libexec; do
    mount --bind "$place/${pair%:*}" "${pair#*:}"
done
mount --bind "$root/usr/libexec/opensmtpd" /usr/libexec/opensmtpd
exec "$root/usr/sbin/smtpd" -d -f "$place/smtpd.conf"
"""
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")

_CONFIG = """\
{pki}
table users {{ {users} }}
smtp max-message-size {octets}
listen on {host} port {port} hostname {name} {tls}
action "in" maildir "{mail}/%{{rcpt.user}}" userbase <users>
match from any for domain {domain} action "in"
"""

_ETC = {
    "passwd": "root:x:0:0::/:/bin/sh\n"
    "opensmtpd:x:61813:61813::/var/lib/opensmtpd/empty:/bin/false\n"
    "opensmtpq:x:61814:61814::/var/lib/opensmtpd/empty:/bin/false\n",
    "group": "root:x:0:\nopensmtpd:x:61813:\nopensmtpq:x:61814:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "hosts": "127.0.0.1 localhost\n",
    "resolv.conf": "",
    "mailname": f"{NAME}\n",
}


@contextlib.contextmanager
def opensmtpd(
    *, host: str = HOST, port: int = 0, certificate: Certificate | None = None, message_octets: int = 35_000_000
) -> Iterator[Exchanger]:
    """It has a mailbox for each of LOCALS, and 550 for others; it knows no SMTPUTF8. Skips where it can't start.

    `certificate`: it offers STARTTLS. That of Debian 12 then fails each handshake, since it was made for OpenSSL 1
    (github.com/OpenSMTPD/OpenSMTPD/issues/1239): a peer as there are, to which only plain text gets through.
    """
    root = unpacked("opensmtpd")
    if not shutil.which("unshare"):
        pytest.skip("OpenSMTPD is started in namespaces: there is no unshare here")
    with folder() as place:
        port = port or free_port(host)
        mail = mail_folder(place)
        _make_folders(place)
        (place / "smtpd.conf").write_text(
            _CONFIG.format(
                pki=_pki(certificate) if certificate else "",
                tls=f"tls pki {NAME}" if certificate else "",
                users=", ".join(f'"{local}" = "{MAIL_UID}:{MAIL_UID}:{mail}/{local}"' for local in LOCALS),
                octets=message_octets,
                host=host,
                port=port,
                name=NAME,
                mail=mail,
                domain=DOMAIN,
            )
        )
        command = [*_NAMESPACES, "/bin/sh", "-c", _START, "sh", str(place), str(root)]
        with running(command, (host, port), place / "log", {"LD_LIBRARY_PATH": libraries(root)}):
            yield Exchanger(host, port, DOMAIN, mail, place / "log")


def _make_folders(place: Path) -> None:
    for name in ("etc", "run", "lib/opensmtpd/empty", "spool/smtpd", "libexec/opensmtpd"):
        (place / name).mkdir(mode=0o755, parents=True)
    (place / "spool/smtpd").chmod(0o711)
    for name, content in _ETC.items():
        (place / "etc" / name).write_text(content)


def _pki(certificate: Certificate) -> str:
    return f'pki {NAME} cert "{certificate.certificate}"\npki {NAME} key "{certificate.key}"'
