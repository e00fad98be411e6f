"""The command `pillarbox`. Exit status: 0 done, 1 refused, 2 called wrongly, 75 try later (EX_TEMPFAIL)."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from . import __version__, config
from .commands.options import HomeOption, JsonOption, home_of
from .home import Home
from .terminal import say, table
from .terms import Misuse, Refused, TryLater
from .usage import explained

REFUSED, MISUSED, TRY_LATER = 1, 2, 75
STOP_SECONDS = 60.0  # more than any grace time that makes sense
RELOAD_SECONDS = 15.0
FOREIGN = "not served: its domain is not in `domains`"
SYSTEM_USERS = '`accounts.source` holds "passwd": users of this system are accounts, too, and are not listed'
LOOK_SECONDS = 0.02  # between two looks at what the server says of itself

TetherOption = Annotated[int, Parameter("--tether", show=False)]
SecretOption = Annotated[
    bool,
    Parameter(
        "--secret-stdin",
        negative=(),
        show_default=False,
        help="Read a strong secret, for every mechanism, from standard input.",
    ),
]
PasswordOption = Annotated[
    bool,
    Parameter(
        "--password-stdin",
        negative=(),
        show_default=False,
        help="Read a password, kept as argon2id: for logins by password alone, so not for APOP.",
    ),
]

COMMANDS = {
    "device": "A secret of its own for each device of an account, which can be revoked alone.",
    "key": "The key that all secrets are sealed with.",
    "dkim": "Keys that sign outgoing mail (DKIM), and the DNS records to publish.",
    "dns_app": "What to publish in the DNS, and is it? Also Thunderbird's settings file.",
    "doctor": "What is wrong with this server, and what to do about it.",
    "exposed": "Whose password could be read on its way, from where, how often, and what to do about it.",
    "grants": "Who may send because of a POP3 login (POP before SMTP).",
    "ledger": "The list of all attempts to log in; `ledger verify` checks that nobody has changed it.",
    "migrate": "How many accounts still log in without TLS, and which; and who no longer may.",
    "queue": "Mail that was accepted and waits for its delivery.",
    "throttle": "Who has to wait because logins have failed, and forgiveness.",
    "tls": "The certificates that TLS is spoken with, and their fingerprints.",
    "send_app": "Hand in a message from standard input, as `sendmail -t -i` and `qmail-inject` do.",
    "import_app": "Carry the configuration of another mail host over: `pillarbox import qmail /var/qmail`.",
    "link": "Make links with the names of the classic programs, from sendmail to checkpw, that lead to this one.",
    "service": "Start with the system: systemd units, or an init script.",
}

app = App(
    name="pillarbox",
    version=f"pillarbox {__version__}",
    help="A mail host whose passwords need not travel. Without a command: serve, and show that it works.",
    help_on_error=False,
)
account = App(name="account", help="The accounts of this server.")
config_app = App(name="config", help="The configuration, HOME/pillarbox.toml.")
app.command(account)
app.command(config_app)
for name, help_ in COMMANDS.items():
    app.command(
        f"pillarbox.commands.{name}:app", name=name.removesuffix("_app"), help=help_
    )  # loaded when it is needed


@app.default
def show(*, home: HomeOption = "") -> int:
    """Serve on embedded defaults, make a first account if there is none, and show mail coming in and being fetched."""
    from .demo import show as run

    return run(home_of(home))


@app.command
def demo() -> int:
    """The same show in a throw-away folder, on free ports; ends by itself. No home is touched."""
    from .demo import demo as run

    return run()


@app.command
def serve(
    *,
    no_listen: Annotated[bool, Parameter(negative=(), help="Open no port: deliver what is handed in here.")] = False,
    home: HomeOption = "",
    tether: TetherOption = -1,
) -> int:
    """Serve in the foreground until TERM or Ctrl-C; HUP reads the configuration again."""
    from . import notify
    from . import serve as parent
    from .tether import tie

    place = home_of(home)
    settings = config.load(place.config)
    place.identities(settings)
    lock = place.lock()
    try:
        ready = tie(tether) if tether >= 0 else lambda _: notify.ready()
        return parent.run(place, settings, ready=ready, listens=not no_listen)
    finally:
        os.close(lock)


def _new_secret(secret_stdin: bool, password_stdin: bool) -> tuple[bytes, str | None]:
    """A secret, chosen or generated, and None; or no secret, and the verifier of a password."""
    if secret_stdin and password_stdin:
        raise Misuse("--secret-stdin and --password-stdin exclude each other")
    if password_stdin:
        from .store.password_hash import hashed

        return b"", hashed(_given("Password"))
    if secret_stdin:
        from .store.password_hash import check_strong

        secret = _given("Secret")
        found = f"guessing this secret from one overheard digest takes a graphics card {check_strong(secret)}"
        print(f"{found}; a generated one is never guessed", file=sys.stderr)
        return secret, None
    from .store.secrets import generate

    return generate().encode(), None


def _given(what: str) -> bytes:
    """From standard input, where it is typed without being shown."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().rstrip(b"\r\n")
    try:
        return getpass.getpass(f"{what} (it is not shown): ").encode("utf-8", "surrogateescape")
    except EOFError:
        return b""


@account.command
def add(
    name: str,
    /,
    *,
    secret_stdin: SecretOption = False,
    password_stdin: PasswordOption = False,
    home: HomeOption = "",
) -> None:
    """Make an account. NAME is local@domain, or local for the first of our domains."""
    from . import administration
    from .commands.namesake import namesake

    secret, password = _new_secret(secret_stdin, password_stdin)
    place = home_of(home)
    made, messages = administration.add(place, name, secret, password)
    say(f"account {made.name} added")
    if warning := namesake(place, made.name):
        print(f"warning: {warning}", file=sys.stderr)
    if messages:
        lie = "1 message lies" if messages == 1 else f"{messages} messages lie"
        say(f"{lie} in {made.maildir} already, and belong{'s' * (messages == 1)} to this account now")
    _show_secret(secret, secret_stdin or password_stdin)


@account.command(name="secret")
def renew(
    name: str,
    /,
    *,
    secret_stdin: SecretOption = False,
    password_stdin: PasswordOption = False,
    home: HomeOption = "",
) -> None:
    """Give an account a new secret, or a password; the old one is void at once, those of its devices stay."""
    from . import administration

    secret, password = _new_secret(secret_stdin, password_stdin)
    with administration.opened(home_of(home)) as (settings, store):
        full = administration.account_name(name, settings)
        if password is None:
            store.set_secret(full, secret)
        else:
            store.set_password(full, password)
    say(f"account {full} has a new {'secret' if password is None else 'password'}")
    _show_secret(secret, secret_stdin or password_stdin)


def _show_secret(secret: bytes, given: bool) -> None:
    if not given:
        say(f"secret: {secret.decode()}")
        print("The secret is shown only this once.", file=sys.stderr)


@account.command(name="list")
def list_(*, home: HomeOption = "") -> None:
    """All accounts, the oldest first; postmaster's mail goes to the first, unless an alias says otherwise.

    Columns: account, Maildir, and a note where there is something to say. Without a terminal there are no headings, and
    tabs between the columns.
    """
    from . import administration

    with administration.opened(home_of(home)) as (settings, store):
        found = [one for one in map(store.find, store.names()) if one]
    if "passwd" in settings.accounts.source:
        print(SYSTEM_USERS, file=sys.stderr)
    if not found:
        print("no accounts", file=sys.stderr)
        return
    notes = {one.name: () if administration.served(one.name, settings) else (FOREIGN,) for one in found}
    heads = ("Account", "Maildir", *(("Note",) if any(notes.values()) else ()))
    table(heads, [(one.name, one.maildir, *notes[one.name]) for one in found])


@account.command
def remove(name: str, /, *, home: HomeOption = "") -> None:
    """Remove an account. Its mail stays on disk."""
    from . import administration

    with administration.opened(home_of(home)) as (settings, store):
        full = administration.account_name(name, settings)
        there = store.find(full)
        store.remove(full)
    say(
        f"account {full} removed"
        + (f"; its mail stays in {there.maildir}" if there and os.path.exists(there.maildir) else "")
    )


@app.command
def status(*, json_: JsonOption = False, home: HomeOption = "") -> int:
    """Is a server running, and where does it listen? Exit status 1: none runs; 75: that can't be seen from here."""
    place = home_of(home)
    try:
        state = _running(place)
    except Refused as error:
        return _complain(error.why, TRY_LATER)
    if json_:
        print(json.dumps(state or {"pid": None, "listen": {}}))
    elif state is None:
        say(f"no server runs on {place.folder}")
    else:
        _print_status(place, state)
    return 0 if state is not None else REFUSED


def _running(place: Home) -> dict[str, Any] | None:
    """What the server that runs now says of itself; one that was killed has left its words behind."""
    pid, state = place.running(), place.read_status()
    return state if state is not None and state["pid"] == pid else None


def _print_status(place: Home, state: dict[str, Any]) -> None:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["started"]))
    say(f"Pillarbox {state['version']} runs on {place.folder} as {state['hostname']} since {started}", "bold")
    rows = [(f"{protocol} listens on", ", ".join(at) or "nowhere") for protocol, at in state["listen"].items()]
    rows += [(f"process {name}", str(pid)) for name, pid in {"parent": state["pid"], **state["processes"]}.items()]
    table(("", ""), rows)


@app.command
def stop(*, home: HomeOption = "") -> None:
    """Stop the server on this home, and wait until it has ended."""
    place = home_of(home)
    with _process(place) as (pid, descriptor):
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], STOP_SECONDS)[0]:
            raise TryLater(f"the server (pid {pid}) has not ended within {STOP_SECONDS:.0f} seconds; its log says why")
    say(f"the server on {place.folder} has ended")


@app.command
def reload(*, home: HomeOption = "") -> None:
    """Have the server read its configuration again; sessions go on."""
    place = home_of(home)
    settings = config.load(place.config)
    _check_certificates(place, settings)
    _warn(place, settings)
    with _process(place) as (pid, descriptor):
        before = _running(place)
        if before is None:
            raise TryLater(f"the server (pid {pid}) is still starting")
        signal.pidfd_send_signal(descriptor, signal.SIGHUP)
        until = time.monotonic() + RELOAD_SECONDS
        while (now := _running(place) or before)["generation"] == before["generation"]:
            if now["reload_refused"]["times"] != before["reload_refused"]["times"]:
                raise Refused(f"the server goes on as it was: {now['reload_refused']['why']}")
            if select.select([descriptor], [], [], LOOK_SECONDS)[0]:
                raise TryLater(f"the server (pid {pid}) has ended")
            if time.monotonic() > until:
                raise Refused(f"the server (pid {pid}) has not taken the configuration; its log says why")
    say("the server uses the new configuration")
    if waiting := now["needs_restart"]:
        say(f"but for this it must be stopped, and served again: {', '.join(waiting)}")


@contextlib.contextmanager
def _process(place: Home) -> Iterator[tuple[int, int]]:
    """The server's pid, and a descriptor of that very process: it still holds the lock once we have the descriptor."""
    pid = place.running()
    if pid is None:
        raise Refused(f"no server runs on {place.folder}")
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        raise Refused(f"the server on {place.folder} has just ended") from None
    try:
        if place.running() != pid:
            raise Refused(f"the server on {place.folder} has just ended")
        yield pid, descriptor
    except PermissionError:
        raise Refused(f"the server (pid {pid}) belongs to another user than you ({getpass.getuser()})") from None
    except ProcessLookupError:
        raise Refused(f"the server on {place.folder} has just ended") from None
    finally:
        os.close(descriptor)


@config_app.command
def check(*, home: HomeOption = "") -> None:
    """Is the configuration right? Says where it is not, and warns of what is right, and still can't work."""
    place = home_of(home)
    path, settings = place.config, config.load(place.config)
    place.identities(settings)
    _check_certificates(place, settings)
    _warn(place, settings)
    say(f"{path} is right" if os.path.exists(path) else f"{path} is not there: the defaults apply")


def _check_certificates(place: Home, settings: config.Config) -> None:
    from .commands.tls import check

    check(place, settings)


def _warn(place: Home, settings: config.Config) -> None:
    from .commands.config_warnings import warnings

    for text in warnings(place, settings):
        print(f"pillarbox: {place.config}: {text}", file=sys.stderr)


@config_app.command(name="show")
def show_config(*, home: HomeOption = "") -> None:
    """Every key with its value, defaults included, as TOML."""
    print(config.to_toml(config.load(home_of(home).config)), end="")


def main(arguments: list[str] | None = None) -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; its exit status."""
    try:
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except CycloptsError as error:
        return _complain(explained(error, app), MISUSED)
    except Misuse as error:
        return _complain(str(error), MISUSED)
    except Refused as error:
        return _complain(error.why, REFUSED)
    except TryLater as error:
        return _complain(error.why, TRY_LATER)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads what is still to be flushed
        return REFUSED
    except OSError as error:
        return _complain(f"{error.filename or 'trouble'}: {error.strerror}", TRY_LATER)


def _complain(text: str, status: int) -> int:
    print(f"pillarbox: {text}", file=sys.stderr)
    return status
