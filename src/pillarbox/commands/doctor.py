"""`pillarbox doctor`: looks at a server as it stands, changes nothing, and tells what to do about what it finds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

from cyclopts import App, Parameter

from .. import config
from ..config import Config
from ..home import Home
from .config_warnings import warnings
from .doctor_files import check_files
from .doctor_machine import check_clock, check_disk, check_python
from .doctor_names import check_names
from .doctor_relay import check_plaintext, check_relay
from .doctor_secrets import check_accounts, check_password_files
from .doctor_service import check_log, check_ports, check_queue
from .doctor_tls import check_certificates
from .findings import Finding, advice, examined, report
from .options import HomeOption, JsonOption, home_of

OfflineOption = Annotated[bool, Parameter("--offline", negative=(), show_default=False, help="Ask no DNS.")]

app = App(name="doctor", help="What is wrong with this server, and what to do about it.")


@app.default
def doctor(*, offline: OfflineOption = False, json_: JsonOption = False, home: HomeOption = "") -> int:
    """Secrets, files, certificates, relaying, DNS, clock, disk, ports, queue, log: what is wrong, and its remedy.

    Nothing is changed. Columns: level (serious, advice, fine), what it is about, what was found, what to do. Exit
    status 1: something is serious. As root it looks at every system user's secret too, with that user's rights.
    """
    place = home_of(home)
    place.must_be_ours()
    settings = config.load(place.config)
    place.identities(settings)
    return report(list(_all(place, settings, offline=offline)), as_json=json_)


def _all(place: Home, settings: Config, *, offline: bool) -> Iterator[Finding]:
    checks: dict[str, Callable[[Home, Config], Iterable[Finding]]] = {
        "files": check_files,
        "configuration": _check_configuration,
        "accounts": check_accounts,
        "secrets": check_password_files,
        "certificates": check_certificates,
        "relaying": check_relay,
        "passwords": check_plaintext,
        "clock": check_clock,
        "disk": check_disk,
        "software": check_python,
        "ports": check_ports,
        "queue": check_queue,
        "log": check_log,
        "DNS": check_names,
    }
    if offline:
        del checks["DNS"]
    for about, check in checks.items():
        yield from examined(about, lambda check=check: check(place, settings))  # type: ignore[misc]


def _check_configuration(place: Home, settings: Config) -> Iterator[Finding]:
    """What `pillarbox config check` warns of."""
    for text in warnings(place, settings):
        yield advice(
            "configuration", text, "", f"change it in {os.path.basename(place.config)}, then `pillarbox reload`"
        )
