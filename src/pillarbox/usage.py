"""A wrong command line, told in our words: what is wrong, and what was probably meant."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from .programs.names import PROGRAMS
from .terminal import command


def explained(error: CycloptsError, app: App) -> str:
    """One line, without a full stop. `app`: the whole command."""
    words = " ".join(error.command_chain or ())
    help_line = " ".join(part for part in (command(), words, "--help") if part)
    return f"{_what(error, app)}; see `{help_line}`"


def _what(error: CycloptsError, app: App) -> str:
    unused = list(error.unused_tokens or ())
    if isinstance(error, UnknownCommandError | UnusedCliTokensError) and unused:
        return _unknown_word(unused, tuple(error.command_chain or ()), app, _home(error.root_input_tokens or ()))
    if isinstance(error, UnknownOptionError):
        option = error.token.keyword or error.token.value
        return _nearest("option", option, [name for one in error.argument_collection if one.show for name in one.names])
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return _missing(error)
    return " ".join(str(error).split()).rstrip(".")


def _home(words: Sequence[str]) -> str:
    """The option --home among these words, as it is to be repeated in a hint; nothing where it is not there."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--home" and following:
            return f" --home {shlex.quote(following)}"
        if word.startswith("--home="):
            return f" {shlex.quote(word)}"
    return ""


def _unknown_word(unused: list[str], chain: tuple[str, ...], app: App, home: str) -> str:
    for name in chain:
        app = app[name]
    wrong = unused[0]
    known = [name for name in app if not name.startswith("-")]
    if not known:
        return f"`{' '.join(chain)}` takes no `{wrong}`"
    if wrong in known:
        return f"options stand behind the command: {command()} {' '.join((*chain, *unused))}{home}"
    if wrong.startswith("-"):
        return f"`{' '.join(chain)}` wants a command first: {', '.join(known)}"
    known += () if chain else PROGRAMS
    return _nearest("command", " ".join((*chain, wrong)), [" ".join((*chain, name)) for name in known])


def _nearest(kind: str, wrong: str, known: list[str]) -> str:
    alike = difflib.get_close_matches(wrong, known, 1)
    return f"there is no {kind} `{wrong}`" + (f"; the nearest is `{alike[0]}`" if alike else "")


def _missing(error: MissingArgumentError) -> str:
    assert error.argument is not None
    name = error.keyword or error.argument.name
    if name.startswith("-"):
        return f"a value behind {name} is missing"
    needed = [one.name for one in error.app.assemble_argument_collection() if one.required] if error.app else [name]
    call = " ".join((command(), *(error.command_chain or ()), *needed))
    return f"{name} is missing: {call}{_home(error.root_input_tokens or ())}"
