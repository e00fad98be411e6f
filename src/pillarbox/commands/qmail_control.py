"""qmail's control files as keys of ours: what each becomes, and what can't be kept."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from ..store.control import FOLDER, Controls
from ..terms import Refused
from .qmail_rules import records
from .qmail_translation import Translation, refusal
from .qmail_users import Users, alias_names, assigned

BESIDE: dict[str, list[str]] = {
    "pop3": ["127.0.0.1:1110"],
    "smtp": ["127.0.0.1:1025"],
    "submission": [],
    "pop3s": [],
    "submissions": [],
}
_STARTED = re.compile(rb"qmail-start\s+[\"']?([./][^\s\"']*)")  # in /var/qmail/rc: the default delivery


def translate(folder: str, users: Users, *, beside: bool = False) -> Translation:
    """`beside`: as it may run while that qmail still does.

    Raises Refused where qmail was never configured, and TryLater for a file that can't be read."""
    control, found = Controls(f"{folder}/{FOLDER}"), Translation(folder)
    me = (control.me() or b"").decode("latin-1").lower()
    if not me:
        raise Refused(f"{folder}/{FOLDER}/me says no name: that qmail was never configured")
    found.carry("hostname", me, "control/me")
    _domains(control, found, me)
    _virtual_domains(control, found)
    _accounts(control, found, users)
    _listen(found, beside)
    _numbers(control, found)
    _routes(control, found)
    _senders(control, found)
    _received_for(control, found)
    _others(control, found, me)
    _unknown(folder, found)
    return found


def texts(lines: Iterable[bytes] | None) -> list[str]:
    return [line.decode("latin-1").strip() for line in lines or ()]


# Whose mail is ours.


def _domains(control: Controls, found: Translation, me: str) -> None:
    """Users live in the first domain; in further ones by `virtual_domains` without a prefix."""
    listed = control.lines("locals")
    names = list(dict.fromkeys(name.lower() for name in (texts(listed) if listed is not None else [me])))
    host = (control.line("defaulthost") or b"").decode("latin-1").lower() or me
    names.sort(key=lambda name: (name != host, name != me))  # stable
    for name in names:
        if why := refusal("domains", [name]):
            found.leave("control/locals", name, f"it {why}", "have its mail sent to another domain")
        else:
            found.domains.append(name)
    found.virtual |= dict.fromkeys(found.domains[1:], "")


def _virtual_domains(control: Controls, found: Translation) -> None:
    for line in texts(control.lines("virtualdomains")):
        key, colon, prefix = line.lower().partition(":")
        if not colon:
            why = "a line without a colon, which qmail takes no notice of"
            found.leave("control/virtualdomains", line, why, "nothing", counts=False)
        elif why := _virtual(found, key, prefix):
            found.leave("control/virtualdomains", line, why, "name its addresses in `aliases`, if it has few")
    if not found.domains:
        raise Refused("no domain is local there: there is no mail to take, and nothing to carry over")
    found.carry("domains", found.domains, "control/locals and control/virtualdomains")


def _virtual(found: Translation, key: str, prefix: str) -> str:
    """Why it can't be carried over; empty: it was."""
    name, at, domain = key.rpartition("@")
    if not domain or domain.startswith("."):
        return "a wildcard over domains is not offered"
    if not prefix:
        return "an exception from a wildcard, and there are none here"
    if not found.domains:
        return "no domain is local, so no user has an address that it could lead to"
    if at and domain not in found.domains:
        return "one address of a domain whose other mail is not ours can't be kept"
    if at:
        found.aliases[key] = f"{prefix}-{name}@{found.domains[0]}"
        return ""
    if domain in found.domains:
        return "the domain is local, or listed twice: qmail goes by the first of these"
    why = refusal("domains", [domain]) or refusal("accounts.virtual_domains", {domain: prefix})
    if not why:
        found.domains.append(domain)
        found.virtual[domain] = prefix
    return f"it {why}" if why else ""


def _received_for(control: Controls, found: Translation) -> None:
    """rcpthosts says what is taken from strangers: here, what is ours, and nothing else."""
    listed = control.lines("rcpthosts")
    if listed is None:
        why = "without this file qmail relays for everybody; here nobody relays without a login or a grant"
        found.leave("control/rcpthosts", "", why, "nothing", counts=False)
        return
    more = [key for key, _ in records(f"{found.folder}/{FOLDER}/morercpthosts.cdb") or ()]
    names = [name.lower() for name in texts([*listed, *more])]
    for name in names:
        if name not in found.domains and not name.startswith("."):
            why = "mail for it is taken there and sent on (a secondary exchanger), which is not offered"
            found.leave("control/rcpthosts", name, why, "take this host out of the domain's MX records")
        elif name.startswith("."):
            why = "mail for all domains below it is taken there; here each is named in `domains`"
            found.leave("control/rcpthosts", name, why, "add those that have mailboxes here to `domains`")
    for name in found.domains:
        if name not in names and not any(name.endswith(each) for each in names if each.startswith(".")):
            why = "it is not listed: qmail takes its mail from programs of this machine alone, and we take it from all"
            found.leave("control/rcpthosts", name, why, "take it out of `domains`, if that must not be", counts=False)


# Who has a mailbox.


def _accounts(control: Controls, found: Translation, users: Users) -> None:
    found.carry("accounts.source", ["passwd"], "users of this system have their mail in ~/Maildir")
    found.carry("accounts.dot_qmail", True, "their .qmail files, and the alias user's, say where mail goes")
    found.carry("accounts.extensions", ["-"], "user-extension, as conf-break has it")
    for names, reports in (alias_names(found.folder, users, found.domains), assigned(found.folder, users)):
        found.aliases = {**names, **found.aliases}
        found.left += reports
    if found.virtual:
        found.carry(
            "accounts.virtual_domains", found.virtual, "control/virtualdomains, further names of control/locals"
        )
    if found.aliases:
        found.carry("aliases", found.aliases, "users/assign, addresses of control/virtualdomains, alias/.qmail-*")
    _default_delivery(control, found)


def _default_delivery(control: Controls, found: Translation) -> None:
    """What qmail-start is told: by control/defaultdelivery where the rc file reads that, else in it."""
    file, value = "control/defaultdelivery", control.line("defaultdelivery")
    if value is None:
        started = _STARTED.search(Controls(found.folder).content("rc") or b"")
        file, value = "rc", started[1] if started else b""
    if not value:
        why = (
            "what is done with mail where there is no .qmail file could not be found there; here it goes to ~/Maildir/"
        )
        found.leave("rc", "", why, "if it was an mbox file, convert the users' mail (maildirmake, mb2md)", counts=False)
    elif value not in (b"./Maildir/", b"./Maildir"):
        why = "where there is no .qmail file, mail goes to ~/Maildir/ here, and nowhere else"
        found.leave(file, value.decode("latin-1"), why, "convert the users' mail into Maildirs (maildirmake, mb2md)")


def _listen(found: Translation, beside: bool) -> None:
    if beside:
        _listen_beside(found)
        return
    found.carry("listen.pop3", ["0.0.0.0:110"], "as `tcpserver 0 pop3` listens")
    found.carry("listen.smtp", ["0.0.0.0:25"], "as `tcpserver 0 smtp` listens")
    why = "passwords in the clear are taken from trusted networks alone, APOP from everywhere; qmail takes all"
    found.leave(
        "qmail-popup", "", why, 'set `policy.plaintext = "allow"`, if some client can do no better', counts=False
    )


def _listen_beside(found: Translation) -> None:
    """While the old servers have the ports; from the same clients as theirs."""
    for key, addresses in BESIDE.items():
        found.carry(f"listen.{key}", addresses, "--beside: for tests from this machine; the old servers have the ports")
    found.carry("policy.plaintext", "allow", "--beside: as qmail-popup does; `trusted` once all clients use APOP")


# How mail goes.

_NUMBERS: dict[str, tuple[str, Callable[[int], object]]] = {
    "databytes": ("limits.message_octets", int),
    "timeoutsmtpd": ("limits.smtp_command_seconds", float),
    "queuelifetime": ("delivery.lifetime", float),
    "concurrencyremote": ("delivery.connections", int),
}


def _numbers(control: Controls, found: Translation) -> None:
    for name, (key, kind) in _NUMBERS.items():
        line = control.line(name)
        if line is None:
            continue
        if number := control.number(name, 0):
            found.carry(key, kind(number), f"control/{name}")
        else:
            why = f"`{key}` must be above 0, and keeps its default"
            found.leave(f"control/{name}", line.decode("latin-1"), why, "set the key, if it is too low", counts=False)


def _routes(control: Controls, found: Translation) -> None:
    routes: dict[str, str] = {}
    for line in texts(control.lines("smtproutes")):
        name, _, target = line.lower().partition(":")
        host, _, port = target.partition(":")
        host = host.removeprefix("[").removesuffix("]")  # an IPv4 address
        way = f"{host}:{port}" if host and port else host
        if why := refusal("delivery.routes", {name: way}):
            found.leave("control/smtproutes", line, f"it {why}", "set `delivery.routes`")
        else:
            routes.setdefault(name, way)
    if routes:
        found.carry("delivery.routes", routes, "control/smtproutes")


def _senders(control: Controls, found: Translation) -> None:
    listed = []
    for line in texts(control.lines("badmailfrom")):
        if why := refusal("smtp.refused_senders", [line]):
            found.leave("control/badmailfrom", line, f"it {why}", "refuse it by its domain, if that is known")
        else:
            listed.append(line)
    if listed:
        found.carry("smtp.refused_senders", listed, "control/badmailfrom")


# What has no key.

_COUNTING = {
    "percenthack": ("user%host@domain is not led on to user@host here", "tell those who still use it"),
    "qmqpservers": ("mail is not handed on by QMQP here", "set `delivery.smarthost`"),
}
_SMALL = {  # why it does not matter much; empty: where it differs from the host's name
    "bouncefrom": "bounces come from MAILER-DAEMON",
    "bouncehost": "",
    "concurrencylocal": "local deliveries need no such limit",
    "defaultdomain": "a name without a dot is not completed",
    "defaulthost": "the first of `domains` completes a name",
    "doublebouncehost": "",
    "doublebounceto": "a bounce that can't be delivered is dropped, with a line in the log",
    "envnoathost": "the first of `domains` completes a name",
    "helohost": "",
    "idhost": "",
    "localiphost": "mail for an address in brackets is not taken",
    "plusdomain": "a name that ends with + is not completed",
    "smtpgreeting": "the greeting has `hostname` alone",
    "timeoutconnect": "connecting has a limit of its own",
    "timeoutremote": "each step of a delivery has a limit of its own",
}
_READ = {
    *("me", "locals", "virtualdomains", "rcpthosts", "morercpthosts", "morercpthosts.cdb", "smtproutes", "badmailfrom"),
    "defaultdelivery",
    *_NUMBERS,
}


def _others(control: Controls, found: Translation, me: str) -> None:
    for name, (why, do) in _COUNTING.items():
        if values := texts(control.lines(name)):
            found.leave(f"control/{name}", " ".join(values), why, do)
    for name, reason in _SMALL.items():
        value = (control.line(name) or b"").decode("latin-1")
        if value and value.lower() not in (me, found.domains[0]):
            why = reason or "it is `hostname` everywhere"
            found.leave(f"control/{name}", value, why, "nothing, unless you rely on it", counts=False)


def _unknown(folder: str, found: Translation) -> None:
    known = _READ | _COUNTING.keys() | _SMALL.keys()
    for name in sorted(os.listdir(f"{folder}/{FOLDER}")):
        if name not in known and not name.startswith("."):
            why = "no file of qmail 1.03: some patch or script reads it"
            found.leave(f"control/{name}", "", why, "look up what that does, and whether a key of ours does it")
