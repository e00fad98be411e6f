"""The plan of the house (docs/design.md), held against its imports; and the sizes that keep it readable."""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pillarbox
from pillarbox.programs.names import PROGRAMS

HOUSE = Path(pillarbox.__file__).parent
FILES = sorted(path for path in HOUSE.rglob("*.py") if path.stat().st_size)

FLOOR = {"terms", "listing", "wire_form"}
WORDS = {
    "key_pair",
    "message",
    "messages",
    "messages_delivery",
    "messages_login",
    "channel",
    "link",
    "config",
    "log",
}  # how processes speak, and what they are told

MAY_IMPORT: dict[str, set[str]] = {  # room -> the rooms below it; `room.module` is that module alone
    # the terms floor
    "terms": set(),
    "wire_form": set(),
    "listing": {"terms", "wire_form"},
    "key_pair": set(),
    # our own words
    "log": set(),
    "group_commit": {"terms"},
    "tasks": {"log"},
    "message": set(),
    "messages_login": {"message"},
    "messages": {"terms", "key_pair", "message", "messages_login"},
    "messages_delivery": {"messages"},
    "channel": {"terms", "messages"},
    "link": {"channel", "messages", "log"},
    "config_values": {"terms"},
    "config_tree": set(),
    "config": {"terms", "config_values", "config_tree"},
    "home": {"terms", "config"},
    "local_messages": {"terms", "messages"},
    "local_socket": {"terms", "channel", "messages"},
    "local_submission": {"terms", "home", "local_messages", "local_socket"},
    # the libraries
    "protocol": FLOOR,
    "policy": FLOOR,
    "store": FLOOR,
    # the processes
    "network": FLOOR | WORDS | {"protocol", "policy"},  # never store, never broker
    "broker": FLOOR
    | WORDS
    | {
        "policy",
        "store",
        "home",
        "group_commit",
        "tasks",
        "protocol.scram",
        "protocol.checkpassword",
        "protocol.dot_qmail",
    },
    "delivery": FLOOR
    | WORDS
    | {"protocol", "policy", "store", "home", "group_commit", "tasks", "local_messages", "local_socket"},
    # the parent
    "sockets": {"terms", "config"},
    "children": FLOOR | WORDS | {"home", "network", "broker", "delivery"},
    "serve": FLOOR | WORDS | {"home", "sockets", "local_socket", "network", "children"},
    "programs": FLOOR
    | {
        "protocol",
        "policy",
        "store",
        "broker.privilege",
        "home",
        "config",
        "local_socket",
        "local_messages",
        "local_submission",
    },
    # what a person meets
    "terminal": set(),
    "usage": {"programs.names", "terminal"},
    "tether": {"terms"},
    "notify": {"log"},
    "transcript": {"terms", "config"},
    "administration": {"terms", "config", "home", "store"},
    "demo": {"terms", "config", "home", "administration", "terminal", "tether", "transcript"},
    "testing": {"terms", "config", "administration", "demo", "tether", "transcript"},
    "commands": {
        "broker.certificates",
        "broker.connection_rules",
        "broker.directory",
        "broker.privilege",
        "broker.standing",
        "terms",
        "config",
        "config_values",
        "home",
        "local_messages",
        "local_socket",
        "local_submission",
        "policy",
        "protocol",
        "policy.exposures",
        "store",
        "programs.names",
        "administration",
        "terminal",
    },
    "cli": {
        "commands",
        "terms",
        "config",
        "home",
        "store.password_hash",
        "store.secrets",
        "administration",
        "demo",
        "serve",
        "notify",
        "terminal",
        "tether",
        "usage",
    },
    "multicall": {"cli", "commands", "programs"},
    "__main__": {"multicall"},
    "__init__": set(),
}
PURE = FLOOR | {"protocol", "policy"}
WORLD = {
    "asyncio", "fcntl", "glob", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "pwd", "random",
    "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "syslog", "tempfile",
    "threading", "time", "uvloop",
}  # fmt: skip
FILE_LINES = 400
MEDIAN_LINES = 10
LONG_LINES, LONG_SHARE = 40, 0.01
EMPTY_WORDS = re.compile(r"utils?|helpers?|common|manager|base|handler|misc", re.IGNORECASE)


def name(path: Path) -> str:
    return str(path.relative_to(HOUSE))


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[bool, str]]:
    """Every import, wherever in the file it stands: is it ours, and what; ours are named from the top of the house."""
    here = list(path.relative_to(HOUSE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((False, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield False, node.module or ""
        elif isinstance(node, ast.ImportFrom):
            start = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            yield from ((True, ".".join(part for part in [*start, alias.name] if part)) for alias in node.names)


def allowed(target: str, rooms: set[str]) -> bool:
    return any(target == entry or target.startswith(f"{entry}.") for entry in rooms)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_import_runs_down(path: Path) -> None:
    here = room(path)
    for ours, target in imports(path):
        assert ours or target.split(".")[0] != "pillarbox", f"{name(path)}: import {target} relatively"
        if ours and target != "__version__":
            assert allowed(target, MAY_IMPORT[here] | {here}), f"{here} may not import {target}"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in PURE], ids=name)
def test_pure_rooms_touch_nothing(path: Path) -> None:
    found = {target.split(".")[0] for ours, target in imports(path) if not ours}
    assert not found & WORLD
    assert found <= sys.stdlib_module_names


def test_the_plan_has_no_circle_and_no_room_that_is_not_there() -> None:
    assert {room(path) for path in FILES} == set(MAY_IMPORT)
    plan = {here: {entry.split(".")[0] for entry in below} for here, below in MAY_IMPORT.items()}
    graphlib.TopologicalSorter(plan).prepare()  # raises CycleError


def test_nobody_imports_the_roof() -> None:
    assert [here for here, below in MAY_IMPORT.items() if "cli" in below] == ["multicall"]
    assert [here for here, below in MAY_IMPORT.items() if "serve" in below] == ["cli"]


def loaded_by(module: str) -> set[str]:
    """All modules that a fresh interpreter has loaded after importing this one."""
    code = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_network_process_loads_neither_secrets_nor_mail() -> None:
    loaded = loaded_by("pillarbox.network.process")
    assert "pillarbox.protocol.pop3" in loaded
    forbidden = (
        "pillarbox.store",
        "pillarbox.broker",
        "pillarbox.delivery",
        "pillarbox.home",
        "sqlite3",
        "cryptography",
    )
    assert not [module for module in loaded if module.startswith(forbidden)]


def test_the_broker_loads_no_protocol_that_strangers_speak() -> None:
    assert not loaded_by("pillarbox.broker.monitor") & {"pillarbox.protocol.pop3", "pillarbox.protocol.smtp"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_classic_program_starts_without_libraries(program: str) -> None:
    """Each runs many times a login: the standard library alone, and nothing of it that takes long to load."""
    module = f"pillarbox.programs.{program.replace('-', '_')}"
    code = f"import sys; sys.path.append({str(HOUSE.parent)!r}); import {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "logging", "sqlite3", "msgspec"} & set(done.stdout.split())


# Sizes and names.


def functions() -> Iterator[tuple[str, int]]:
    """Every function with its lines, from `def` to its end."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                yield f"{name(path)}:{node.name}", node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_has_one_subject(path: Path) -> None:
    assert path.read_bytes().count(b"\n") < FILE_LINES


def test_functions_are_short() -> None:
    found = dict(functions())
    assert statistics.median(found.values()) < MEDIAN_LINES
    long = [function for function, lines in found.items() if lines > LONG_LINES]
    assert len(long) <= LONG_SHARE * len(found), long


def test_names_say_something() -> None:
    names = [part.removesuffix(".py") for path in FILES for part in path.relative_to(HOUSE).parts]
    for path in FILES:
        names += [node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ClassDef)]
    words = {word for found in names for word in re.findall(r"[A-Z]?[a-z0-9]+", found)}
    assert not [word for word in words if EMPTY_WORDS.fullmatch(word)]
