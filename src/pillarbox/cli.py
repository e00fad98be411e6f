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
from typing import Annotated

from cyclopts import App, Parameter

from . import __version__, config
from .home import Home, default_folder
from .terms import Misuse, Refused, TryLater

REFUSED, MISUSED, TRY_LATER = 1, 2, 75
STOP_SECONDS = 60.0  # more than any grace time that makes sense
RELOAD_SECONDS = 15.0

HomeOption = Annotated[
    str, Parameter("--home", help="The server's folder; default $PILLARBOX_HOME, else your data directory.")
]
SecretOption = Annotated[bool, Parameter("--secret-stdin", negative=(), help="Read the secret from standard input.")]

app = App(
    name="pillarbox",
    version=__version__,
    help="A mail host whose passwords never travel in the clear. Without a command: serve, and show that it works.",
    help_on_error=False,
)
account = App(name="account", help="The accounts of this server.")
config_app = App(name="config", help="The configuration, HOME/pillarbox.toml.")
app.command(account)
app.command(config_app)


def _home(folder: str) -> Home:
    return Home(os.path.abspath(folder or default_folder()))


@app.default
def show(*, home: HomeOption = "") -> int:
    """Serve on embedded defaults, make a first account if there is none, and show mail coming in and being fetched."""
    from .demo import show as run

    return run(_home(home))


@app.command
def demo() -> int:
    """The same show in a throw-away folder, on free ports; ends by itself."""
    from .demo import demo as run

    return run()


@app.command
def serve(*, home: HomeOption = "") -> int:
    """Serve in the foreground until TERM or Ctrl-C; HUP reads the configuration again."""
    from . import serve as parent

    place = _home(home)
    settings = config.load(place.config)
    lock = place.lock()
    try:
        return parent.run(place, settings)
    finally:
        os.close(lock)


@contextlib.contextmanager
def _accounts(home: str) -> Iterator[tuple[config.Config, object]]:
    from .store.accounts import AccountStore
    from .store.secrets import Seal, load_key

    place = _home(home)
    place.make()
    settings = config.load(place.config)
    store = AccountStore(place.accounts, Seal(load_key(place.key)), place.mail)
    try:
        yield settings, store
    finally:
        store.close()


def _full_name(name: str, settings: config.Config) -> str:
    from .store.accounts import full_name

    full = full_name(name, settings.domains)
    if full is None:
        raise Refused(f'"{name}" is no account name: local or local@domain, of letters, digits and . _ + -')
    if full.partition("@")[2] not in settings.domains:
        raise Refused(
            f"{full}: its domain is not one of ours ({', '.join(settings.domains)}); see domains in pillarbox.toml"
        )
    return full


def _new_secret(stdin: bool) -> tuple[bytes, bool]:
    """A secret that was chosen, or a generated one, and whether it must be shown."""
    from .store.secrets import check_chosen, generate

    if not stdin:
        return generate().encode(), True
    secret = sys.stdin.buffer.readline().rstrip(b"\r\n")
    check_chosen(secret)
    return secret, False


@account.command
def add(name: str, *, secret_stdin: SecretOption = False, home: HomeOption = "") -> None:
    """Make an account. NAME is local@domain, or local for the first of our domains."""
    secret, shown = _new_secret(secret_stdin)
    with _accounts(home) as (settings, store):
        full = _full_name(name, settings)
        store.add(full, secret)
    print(f"account {full} added")
    _print_secret(secret, shown)


@account.command
def secret(name: str, *, secret_stdin: SecretOption = False, home: HomeOption = "") -> None:
    """Give an account a new secret; the old one is void at once."""
    new, shown = _new_secret(secret_stdin)
    with _accounts(home) as (settings, store):
        full = _full_name(name, settings)
        store.set_secret(full, new)
    print(f"account {full} has a new secret")
    _print_secret(new, shown)


def _print_secret(secret: bytes, shown: bool) -> None:
    if shown:
        print(f"secret: {secret.decode()}   (shown this once)")


@account.command(name="list")
def list_(*, home: HomeOption = "") -> None:
    """All accounts, the oldest first."""
    with _accounts(home) as (_, store):
        for name in store.names():
            print(name)


@account.command
def remove(name: str, *, home: HomeOption = "") -> None:
    """Remove an account. Its mail stays on disk."""
    with _accounts(home) as (settings, store):
        full = _full_name(name, settings)
        store.remove(full)
    print(f"account {full} removed; its mail stays in {_home(home).mail}")


@app.command
def status(*, json_: Annotated[bool, Parameter("--json", negative=())] = False, home: HomeOption = "") -> int:
    """Is a server running, and where does it listen?"""
    place = _home(home)
    state = place.read_status() if place.running() else None
    if json_:
        print(json.dumps(state or {"pid": None, "listen": {}}))
    elif state is None:
        print(f"no server runs on {place.folder}")
    else:
        _print_status(state)
    return 0 if state is not None else REFUSED


def _print_status(state: dict[str, object]) -> None:
    print(f"pillarbox {state['version']} on {state['hostname']}, pid {state['pid']}")
    listen = state["listen"]
    assert isinstance(listen, dict)
    for protocol, addresses in listen.items():
        print(f"  {protocol:6} {', '.join(addresses) or 'nowhere'}")


@app.command
def stop(*, home: HomeOption = "") -> int:
    """Stop the server on this home, and wait until it has ended."""
    place = _home(home)
    pid = place.running()
    if pid is None:
        print(f"no server runs on {place.folder}")
        return 0
    with _process(pid) as descriptor:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], STOP_SECONDS)[0]:
            raise TryLater(f"the server (pid {pid}) has not ended within {STOP_SECONDS:.0f} seconds")
    print("stopped")
    return 0


@app.command
def reload(*, home: HomeOption = "") -> None:
    """Have the server read its configuration again; sessions go on."""
    place = _home(home)
    config.load(place.config)
    pid, before = place.running(), place.read_status()
    if pid is None or before is None:
        raise Refused(f"no server runs on {place.folder}")
    with _process(pid) as descriptor:
        signal.pidfd_send_signal(descriptor, signal.SIGHUP)
    until = time.monotonic() + RELOAD_SECONDS
    while (place.read_status() or before)["generation"] == before["generation"]:
        if time.monotonic() > until:
            raise Refused("the server has not taken the configuration; its log says why")
        time.sleep(0.05)  # polling a file that changes once
    print("reloaded")


@contextlib.contextmanager
def _process(pid: int) -> Iterator[int]:
    """A descriptor of that very process: a pid could have passed to another one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        raise TryLater("the server has just ended") from None
    try:
        yield descriptor
    except PermissionError:
        raise Refused(f"the server (pid {pid}) belongs to another user than {getpass.getuser()}") from None
    finally:
        os.close(descriptor)


@config_app.command
def check(*, home: HomeOption = "") -> None:
    """Is the configuration right? Says where it is not."""
    place = _home(home)
    config.load(place.config)
    print(f"{place.config}: ok" if os.path.exists(place.config) else f"{place.config}: not there, defaults apply")


@config_app.command(name="show")
def show_config(*, home: HomeOption = "") -> None:
    """Every key with its value, defaults included."""
    tree = json.loads(config.to_json(config.load(_home(home).config)))
    for key, _ in config.keys():
        value = tree
        for name in key.split("."):
            value = value[name]
        print(f"{key} = {json.dumps(value)}")


def main(arguments: list[str] | None = None) -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; its exit status."""
    from cyclopts import CycloptsError

    try:
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()) + "; pillarbox --help tells more", MISUSED)
    except Misuse as error:
        return _complain(str(error), MISUSED)
    except Refused as error:
        return _complain(error.why, REFUSED)
    except TryLater as error:
        return _complain(error.why, TRY_LATER)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        return _complain(f"{error.filename or 'trouble'}: {error.strerror}", TRY_LATER)


def _complain(text: str, status: int) -> int:
    print(f"pillarbox: {text}", file=sys.stderr)
    return status
