"""All mail by one host, where we log in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pillarbox import config

from ..peers.certificates import Authority
from ..peers.dns import NameServer
from ..peers.misbehaving import misbehaving
from ..peers.smarthost import NAME, smarthost
from .office import mail, opened

SECRET = "a long secret"
LOGINS = {"pillarbox": SECRET}
World = tuple[NameServer, int]


@pytest.fixture
def secret_file(open_folder: Path) -> Path:
    """Readable for the queue's user alone."""
    path = open_folder / "secret"
    path.touch(mode=0o600)
    path.write_text(f"{SECRET}\n")
    if os.geteuid() == 0:
        uid = int(config.Config().users.queue)
        os.chown(path, uid, uid)
    return path


def by_smarthost(port: int, secret_file: Path, authority: Authority, **changes: Any) -> dict[str, Any]:
    return {
        "smarthost": f"{NAME}:{port}",
        "smarthost_user": "pillarbox",
        "smarthost_secret_file": str(secret_file),
        "ca_file": str(authority.ca_file),
        **changes,
    }


def test_we_log_in_over_tls(world: World, authority: Authority, secret_file: Path) -> None:
    names, port = world
    with smarthost(context=authority.issue(NAME).server_context(), logins=LOGINS) as host, misbehaving() as direct:
        names.a(NAME, host.host)
        keys = by_smarthost(host.port, secret_file, authority, routes={"direct.test": direct.route})
        with opened(names, port, **keys) as office:
            office.send("x@one.test", "y@two.test", "z@direct.test", message=mail("by smarthost"))
            (taken,) = host.wait_for(1)
            direct.wait_for(1)
            office.wait_empty()
            assert (taken.login, taken.encrypted) == ("pillarbox", True)
            assert taken.recipients == ["x@one.test", "y@two.test"] and b"Subject: by smarthost\r\n" in taken.content
            assert not names.count("one.test") and SECRET not in office.mail.log()
            host.replies["RCPT"] = "550 5.7.1 you may not"
            office.send("x@three.test")
            assert office.report("x@three.test").of("x@three.test")["Status"] == "5.7.1"


@pytest.mark.parametrize("case", ["wrong secret", "another name", "no TLS", "no secret file"])
def test_no_password_for_whom_it_is_not_meant_and_no_mail_is_lost(
    world: World, authority: Authority, secret_file: Path, case: str
) -> None:
    names, port = world
    certificate = authority.issue("other.test" if case == "another name" else NAME)
    context = None if case == "no TLS" else certificate.server_context()
    logins = {"pillarbox": "another secret"} if case == "wrong secret" else LOGINS
    if case == "no secret file":
        secret_file.unlink()
    with smarthost(context=context, logins=logins) as host:
        names.a(NAME, host.host)
        with opened(names, port, **by_smarthost(host.port, secret_file, authority)) as office:
            office.send("x@one.test")
            (recipient,) = office.deferred("x@one.test").recipients
            assert recipient.outcome is not None and recipient.outcome.action == "delayed"
            statuses = {"wrong secret": "4.7.0", "another name": "4.7.5", "no TLS": "4.7.4", "no secret file": "4.3.5"}
            assert recipient.outcome.status == statuses[case]
            assert host.taken == [] and bool(host.attempts) == (case == "wrong secret")
            assert SECRET not in office.mail.log() and SECRET not in str(recipient.outcome)
