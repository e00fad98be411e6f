"""Dovecot with a configuration, folders and a port of its own: as shipped, with reused processes, and at its fastest."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from pathlib import Path

from .install import find, need
from .mail import DOMAIN, MAIL_UID
from .servers import Missing, Server, free_port, run_text

PACKAGES = ("dovecot-core", "dovecot-pop3d")
MODES = ("default", "reused", "fastest")

_CONFIG = """\
base_dir = {run}
state_dir = {run}/state
log_path = {log}
ssl = no
protocols = pop3
listen = 127.0.0.1
disable_plaintext_auth = no
auth_mechanisms = plain apop
mail_location = maildir:{mail}/%Ln
mail_max_userip_connections = 0
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%Lu {users}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={mail}/%Ln allow_all_users=yes
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""

# "Fastest": every process serves any number of users at once; none is made for a login.
_MODE = {
    "default": "",
    "reused": """\
service pop3-login {
  service_count = 0
}
service pop3 {
  service_count = 0
}
""",
    "fastest": """\
default_client_limit = 30000
default_vsz_limit = 0
service pop3-login {
  service_count = 0
  process_limit = 2
  process_min_avail = 2
  client_limit = 12000
}
service pop3 {
  service_count = 0
  process_limit = 2
  process_min_avail = 2
  client_limit = 12000
}
""",
}

_UNPRIVILEGED = """\
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
service anvil {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
"""


def install() -> None:
    """Raises Missing."""
    need(("dovecot", "doveconf"), PACKAGES)


def server(mode: str, folder: Path, mail: Path, users: Path) -> Server:
    """`mail` holds one Maildir per local part, `users` the passwd-file. Raises Missing."""
    program = find("dovecot")
    if program is None:
        raise Missing(f"dovecot is not installed: apt-get install {' '.join(PACKAGES)}")
    place = folder / f"dovecot-{mode}"
    place.mkdir(mode=0o755)
    port, root = free_port(), os.geteuid() == 0
    config = place / "dovecot.conf"
    config.write_text(
        _CONFIG.format(
            run=place / "run",
            log=place / "log",
            mail=mail,
            users=users,
            uid=MAIL_UID if root else os.getuid(),
            gid=MAIL_UID if root else os.getgid(),
            port=port,
        )
        + _MODE[mode]
        + ("" if root else _UNPRIVILEGED.format(user=getpass.getuser(), group=os.getgid()))
    )
    return Server(
        name=f"Dovecot {mode}",
        version=run_text(program, "--version"),
        command=[program, "-F", "-c", str(config)],
        log=place / "log",
        mail=mail,
        pop3=port,
    )


def write_users(path: Path, accounts: Iterable[tuple[str, str]]) -> None:
    """A passwd-file of local parts and secrets."""
    path.write_text("".join(f"{local}@{DOMAIN}:{{PLAIN}}{secret}::::::\n" for local, secret in accounts))
    path.chmod(0o644)
