"""Postfix with a configuration, queue and port of its own, delivering to virtual mailboxes in Maildirs."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from .install import find, need, unpack
from .mail import DOMAIN, MAIL_UID
from .servers import Missing, Server, free_port, run_text

LIBRARIES = ("libdb5.3", "libicu72", "libnsl2", "libsasl2-2", "libssl3")
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")

_MAIN = """\
compatibility_level = 3.6
config_directory = {place}
queue_directory = {place}/queue
data_directory = {place}/data
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {place}
import_environment = MAIL_CONFIG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME LD_LIBRARY_PATH
maillog_file = {place}/log
maillog_file_prefixes = {place}
mail_owner = {owner}
setgid_group = {group}
myhostname = mail.{domain}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
biff = no
in_flow_delay = 0
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {mail}
virtual_mailbox_maps = texthash:{place}/mailboxes
virtual_mailbox_limit = 0
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""


def install(folder: Path) -> Path:
    """Where its files lie. Raises Missing."""
    if os.geteuid() != 0:
        raise Missing("Postfix starts only as root: run the bench as root")
    if find("postconf"):
        return Path("/")
    if not _libraries_there():
        need(("",), LIBRARIES)
    return unpack("postfix", folder / "packages")


def _libraries_there() -> bool:
    return all(list(Path("/usr/lib").glob(f"*/{name}*")) for name in ("libdb-5.3.so", "libnsl.so.2", "libsasl2.so.2"))


def _owner() -> tuple[str, str]:
    """A user and a group that Postfix may call its own: those of its package, else two that own no process here."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    groups = {entry.gr_name for entry in grp.getgrall()}
    return ("postfix" if "postfix" in names else "daemon", "postdrop" if "postdrop" in groups else "staff")


def server(folder: Path, mail: Path, root: Path, locals_: Iterable[str]) -> Server:
    """`mail` holds one Maildir per local part; `root` is what `install` gave."""
    place = folder / "postfix"
    owner, group = _owner()
    _make_folders(place, pwd.getpwnam(owner).pw_uid)
    port = free_port()
    (place / "main.cf").write_text(
        _MAIN.format(
            place=place, root=str(root).rstrip("/"), owner=owner, group=group, domain=DOMAIN, mail=mail, uid=MAIL_UID
        )
    )
    (place / "master.cf").write_text(_MASTER.format(port=port))
    (place / "mailboxes").write_text("".join(f"{local}@{DOMAIN} {local}/\n" for local in locals_))
    (place / "dynamicmaps.cf").write_text("")
    return Server(
        name="Postfix",
        version=_version(root),
        command=[str(root / "usr/lib/postfix/sbin/master"), "-c", str(place)],
        log=place / "log",
        mail=mail,
        smtp=port,
        environment={
            "MAIL_CONFIG": str(place),
            "POSTLOG_SERVICE": "postlog",
            "POSTLOG_HOSTNAME": "localhost",
            "LD_LIBRARY_PATH": str(root / "usr/lib/postfix"),
        },
    )


def _make_folders(place: Path, owner: int) -> None:
    """As post-install would: the queue belongs to the mail system's user, its doors to root."""
    for name in ("", "queue", "queue/pid"):
        (place / name).mkdir(mode=0o755)
    for name in ("data", "queue/maildrop", "queue/public", *(f"queue/{queue}" for queue in QUEUES)):
        (place / name).mkdir(mode=0o700)
        os.chown(place / name, owner, 0)
    (place / "queue/public").chmod(0o710)


def _version(root: Path) -> str:
    libraries = f"LD_LIBRARY_PATH={root}/usr/lib/postfix"
    return run_text("/usr/bin/env", libraries, str(root / "usr/sbin/postconf"), "-h", "-d", "mail_version")


def delivered(log: bytes) -> int:
    """How many messages a piece of the log says were put into a Maildir."""
    return log.count(b" status=sent ")
