"""The options of `sendmail` and of `qmail-inject`, read as those programs read them: one letter each, in any order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..protocol.address import BadAddress
from ..protocol.address_list import addresses, one_address
from ..terms import Misuse

# Of sendmail. With a value, in the same word or the next; a few take one in the same word alone.
VALUED = frozenset("BCFLNORVXbefhopr")
ATTACHED = frozenset("Adq")
IGNORED = frozenset("ABCGLOQUXcdehmnopsvx")  # what they change is for the server to decide, or has no meaning here
ARGUMENTS, HEADER, BOTH, EITHER = "arguments", "header", "both", "either"  # whom a message goes to

_NO_SERVICE = {
    "d": "this is no daemon (-bd): the command `pillarbox serve` is",
    "D": "this is no daemon (-bD): the command `pillarbox serve` is",
    "i": "there is no alias file to be built (-bi): `aliases` in pillarbox.toml is in force after `pillarbox reload`",
    "v": "addresses are not verified (-bv)",
    "t": "there is no test mode (-bt)",
}
_NOTIFY = re.compile(r"never|(?:success|failure|delay)(?:,(?:success|failure|delay))*", re.IGNORECASE)


@dataclass(slots=True)
class Options:
    """What shall be done. Addresses are as typed."""

    mode: str = "send"  # or "list" (the queue), "flush", "print" (the completed message), "smtp", "help"
    to: str = ARGUMENTS
    recipients: list[str] = field(default_factory=list)
    dot_ends: bool = False  # a line of a dot alone is the end
    sender: str | None = None  # None: not said
    name: str | None = None  # of the author
    notify: tuple[str, ...] = ()
    ret: str = ""
    envid: str = ""
    home: str = ""
    return_path: bool = False  # a Return-Path field names the sender
    verbose: bool = False
    dropped: frozenset[bytes] = frozenset()  # fields of the message that are not wanted
    taken: list[str] = field(default_factory=list, compare=False)  # words that were values of options, and of which


def sendmail(arguments: Sequence[str]) -> Options:
    """Raises Misuse."""
    options = Options(dot_ends=True)
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            options.recipients += words
            break
        if word.startswith("--"):
            _long_option(options, word, words)
        elif word.startswith("-") and word != "-":
            left = len(words)
            for letter, value in _letters(word, words, VALUED, ATTACHED):
                if len(words) < left:
                    options.taken.append(f"{value} was taken for the value of -{letter}")
                _sendmail_option(options, letter, value)
        else:
            options.recipients.append(word)
    return options


def pillarbox_send(arguments: Sequence[str]) -> Options:
    """Those of sendmail; but who is named nowhere is looked for in the header, and no line ends the message. Raises
    Misuse."""
    options = sendmail(arguments)
    options.dot_ends = False
    if options.to == ARGUMENTS:
        options.to = EITHER
    return options


def _long_option(options: Options, word: str, words: list[str]) -> None:
    """Ours; those programs have none."""
    if word == "--help":
        options.mode = "help"
    elif word == "--home" or word.startswith("--home="):
        options.home = _home(word, words)
    else:
        raise Misuse(f"there is no option {word}")


def _home(word: str, words: list[str]) -> str:
    _, equals, value = word.partition("=")
    if not equals:
        if not words:
            raise Misuse("a folder behind --home is missing")
        return words.pop(0)
    return value


def _letters(
    word: str, words: list[str], valued: frozenset[str], attached: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """The options of one word, as getopt reads it: the letters, each with its value or nothing."""
    at = 1
    while at < len(word):
        letter = word[at]
        at += 1
        if letter in attached or letter in valued:
            value = word[at:]
            if not value and letter in valued:
                if not words:
                    raise Misuse(f"a value behind -{letter} is missing")
                value = words.pop(0)
            yield letter, value
            return
        yield letter, ""


def _sendmail_option(options: Options, letter: str, value: str) -> None:
    match letter:
        case "t":
            options.to = BOTH
        case "i":
            options.dot_ends = False
        case "o" if value == "i":
            options.dot_ends = False
        case "f" | "r":
            options.sender = value
        case "F":
            options.name = value
        case "v":
            options.verbose = True
        case "N":
            options.notify = _notify(value)
        case "R":
            options.ret = _ret(value)
        case "V":
            options.envid = value
        case "b":
            options.mode = _mode(value)
        case "q":
            if value:
                raise Misuse(f"-q{value} is not offered: -q tries all queued messages now, `queue retry ID` one")
            options.mode = "flush"
        case "I":
            raise Misuse(_NO_SERVICE["i"])
        case _ if letter not in IGNORED:
            raise Misuse(f"there is no option -{letter}")


def _mode(value: str) -> str:
    if value in _NO_SERVICE:
        raise Misuse(_NO_SERVICE[value])
    try:
        return {"m": "send", "p": "list", "s": "smtp"}[value]
    except KeyError:
        raise Misuse(f"there is no mode -b{value}: -bm sends a message, -bs speaks SMTP, -bp lists the queue") from None


def _notify(value: str) -> tuple[str, ...]:
    if not _NOTIFY.fullmatch(value):
        raise Misuse(f"-N {value}: say `never`, or some of `success,failure,delay`")
    return tuple(sorted(set(value.upper().split(","))))


def _ret(value: str) -> str:
    if value.lower() not in ("full", "hdrs"):
        raise Misuse(f"-R {value}: say `full` or `hdrs`")
    return value.upper()


# qmail-inject.


def qmail_inject(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Raises Misuse."""
    options = Options(to=EITHER, return_path=True)
    words = list(arguments)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            _long_option(options, word, words)
            continue
        for letter, value in _letters(word, words, frozenset("f")):
            _qmail_option(options, letter, value)
    options.recipients = words
    letters = environment.get("QMAILINJECT", "")
    if set(letters) & set("rm"):
        raise Misuse(f"QMAILINJECT={letters}: a sender for each recipient or message (r, m) is not offered")
    options.return_path = "s" not in letters
    options.dropped = frozenset(field for letter, field in (("f", b"from"), ("i", b"message-id")) if letter in letters)
    options.name = next((environment[key] for key in ("QMAILNAME", "MAILNAME", "NAME") if environment.get(key)), None)
    return options


def _qmail_option(options: Options, letter: str, value: str) -> None:
    match letter:
        case "a":
            options.to = ARGUMENTS
        case "h":
            options.to = HEADER
        case "A":
            options.to = EITHER
        case "H":
            options.to = BOTH
        case "n":
            options.mode = "print"
        case "N":
            options.mode = "send"
        case "f":
            options.sender = value
        case _:
            raise Misuse(f"there is no option -{letter}: qmail-inject [-nNaAhH] [-f SENDER] [RECIPIENT ...]")


def environment_sender(environment: Mapping[str, str], domain: bytes) -> bytes | None:
    """Whom the environment names as the sender, in qmail-inject's way; None where it names nobody. Raises Misuse.

    USER and LOGNAME are no wish: every login sets them, and the server knows the user from the kernel.
    """
    names = ("QMAILSUSER", "QMAILUSER", "MAILUSER")
    hosts = ("QMAILSHOST", "QMAILHOST", "MAILHOST")
    user = next((environment[key] for key in names if environment.get(key)), "")
    host = next((environment[key] for key in hosts if environment.get(key)), "")
    if not user and host:
        user = environment.get("USER") or environment.get("LOGNAME") or ""
    if not user:
        return None
    return typed_address(f"{user}@{host}" if host else user, domain)


def typed_addresses(texts: Sequence[str], domain: bytes) -> list[bytes]:
    """Recipients as a person typed them: each text may name several. Raises Misuse."""
    found: list[bytes] = []
    for text in texts:
        try:
            found += addresses(text.encode("utf-8", "surrogateescape"), domain)
        except BadAddress as error:
            raise Misuse(str(error)) from None
    return found


def typed_address(text: str, domain: bytes) -> bytes:
    """An address as a person typed it. Raises Misuse."""
    try:
        return one_address(text.encode("utf-8", "surrogateescape"), domain)
    except BadAddress as error:
        raise Misuse(str(error)) from None
