"""Postfix with a configuration, a queue and ports of its own, installed or only unpacked."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path

from .install import find, libraries, unpack
from .mail import DOMAIN, MAIL_UID
from .servers import Missing, Server, free_port, run_text

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
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
biff = no
alias_maps =
alias_database =
local_recipient_maps =
{settings}
"""

_MASTER = """\
{host}:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
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
    return unpack("postfix", folder / "packages")


def configure(place: Path, root: Path, host: str, port: int, settings: Mapping[str, str]) -> None:
    """Fill `place` with everything that `command` needs; `root` is what `install` gave, `settings` go into main.cf."""
    owner, group = _owner()
    _make_folders(place, pwd.getpwnam(owner).pw_uid)
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    fields = {"place": place, "root": str(root).rstrip("/"), "owner": owner, "group": group}
    (place / "main.cf").write_text(_MAIN.format(settings=lines, **fields), encoding="utf-8")
    (place / "master.cf").write_text(_MASTER.format(host=host, port=port))
    (place / "dynamicmaps.cf").write_text("")


def command(place: Path, root: Path) -> list[str]:
    return [str(root / "usr/lib/postfix/sbin/master"), "-c", str(place)]


def environment(place: Path, root: Path) -> dict[str, str]:
    return {
        "MAIL_CONFIG": str(place),
        "POSTLOG_SERVICE": "postlog",
        "POSTLOG_HOSTNAME": "localhost",
        "LD_LIBRARY_PATH": _library_path(root),
    }


def virtual(place: Path, domain: str, mail: Path, locals_: Iterable[str]) -> dict[str, str]:
    """Settings for a domain whose mail goes into Maildirs, one per local part, below `mail`; makes a file in `place`."""
    (place / "mailboxes").write_text("".join(f"{local}@{domain} {local}/\n" for local in locals_), encoding="utf-8")
    return {
        "virtual_mailbox_domains": domain,
        "virtual_mailbox_base": str(mail),
        "virtual_mailbox_maps": f"texthash:{place}/mailboxes",
        "virtual_mailbox_limit": "0",
        "virtual_uid_maps": f"static:{MAIL_UID}",
        "virtual_gid_maps": f"static:{MAIL_UID}",
    }


def server(folder: Path, mail: Path, root: Path, locals_: Iterable[str], sink_port: int) -> Server:
    """`mail` holds one Maildir per local part; all other mail goes to the sink's port."""
    place, port = folder / "postfix", free_port()
    place.mkdir(mode=0o755)
    settings = {
        "myhostname": f"mail.{DOMAIN}",
        "mynetworks": "127.0.0.0/8",
        "in_flow_delay": "0",
        "relayhost": f"[127.0.0.1]:{sink_port}",
        **virtual(place, DOMAIN, mail, locals_),
    }
    configure(place, root, "127.0.0.1", port, settings)
    return Server(
        name="Postfix",
        version=_version(root),
        command=command(place, root),
        log=place / "log",
        mail=mail,
        smtp=port,
        queues=tuple(place / "queue" / name for name in ("incoming", "active", "deferred")),
        environment=environment(place, root),
    )


def _owner() -> tuple[str, str]:
    """A user and a group that Postfix may call its own: those of its package, else two that own no process here."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    groups = {entry.gr_name for entry in grp.getgrall()}
    return ("postfix" if "postfix" in names else "daemon", "postdrop" if "postdrop" in groups else "staff")


def _make_folders(place: Path, owner: int) -> None:
    """As post-install would: the queue belongs to the mail system's user, its doors to root."""
    for name in ("queue", "queue/pid"):
        (place / name).mkdir(mode=0o755)
    for name in ("data", "queue/maildrop", "queue/public", *(f"queue/{queue}" for queue in QUEUES)):
        (place / name).mkdir(mode=0o700)
        os.chown(place / name, owner, 0)
    (place / "queue/public").chmod(0o710)


def _library_path(root: Path) -> str:
    return ":".join(filter(None, (str(root / "usr/lib/postfix"), libraries(root) if root != Path("/") else "")))


def _version(root: Path) -> str:
    return run_text(
        "/usr/bin/env",
        f"LD_LIBRARY_PATH={_library_path(root)}",
        str(root / "usr/sbin/postconf"),
        "-h",
        "-d",
        "mail_version",
    )


def delivered(log: bytes) -> int:
    """How many messages a piece of the log says were put into a Maildir."""
    return log.count(b" status=sent ")
