"""The arguments of MAIL and RCPT: an address, and the parameters that extensions add (RFC 5321 section 4.1.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..terms import Wish
from .address import BadAddress, forward_path, parameters, reverse_path
from .smtp_reply import Reply

# Octets, as sent (RFC 3461 section 4). AUTH: RFC 4954 section 5.
ENVID_LIMIT, ORCPT_LIMIT, AUTH_LIMIT = 100, 500, 500

_SIZE = re.compile(rb"[0-9]{1,20}")  # RFC 1870 section 3
_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
# The same where it stands for printable ASCII, blanks included, as RFC 3461 (sections 4.2 and 4.4) asks. Whoever
# writes it into a report decodes it: an encoded line end must not get that far.
_PRINTABLE = re.compile(rb"(?:[!-*,-<>-~]|\+[2-6][0-9A-F]|\+7[0-9A-E])+")
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9!#$%&'*/?^_`{|}~-]+")  # an atom (RFC 3461 section 4.2), and no xtext sign
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")


@dataclass(frozen=True, slots=True)
class MailArgument:
    """What MAIL said."""

    sender: bytes  # empty: the null one
    octets: int = 0  # of the message, as declared with SIZE; 0: not declared
    utf8: bool = False  # UTF-8 was asked for
    ret: str = ""  # FULL or HDRS; empty: not said
    envid: bytes = b""  # xtext; empty: not said


def mail_argument(argument: bytes, *, extended: bool, auth: bool = False) -> MailArgument:
    """`extended`: the client said EHLO, and may use parameters. `auth`: AUTH is offered. Raises Reply."""
    path = _behind(b"FROM:", argument)
    try:
        sender, rest = reverse_path(path)
    except BadAddress as error:
        raise Reply(553, "5.1.7", str(error)) from None
    options = _options(rest, _OF_MAIL if auth else _OF_MAIL.keys() - {b"AUTH"}, extended=extended)
    for option, value in options.items():
        _check(option, _OF_MAIL[option](value))
    utf8 = b"SMTPUTF8" in options
    _check_characters(sender, utf8)
    return MailArgument(
        sender,
        int(options.get(b"SIZE", b"0")),
        utf8,
        options.get(b"RET", b"").upper().decode("ascii"),
        options.get(b"ENVID", b""),
    )


def rcpt_argument(argument: bytes, *, extended: bool, utf8: bool) -> tuple[bytes, Wish]:
    """The recipient, and what shall be said about it. `utf8`: this transaction has SMTPUTF8. Raises Reply."""
    path = _behind(b"TO:", argument)
    try:
        recipient, rest = forward_path(path)
    except BadAddress as error:
        raise Reply(553, "5.1.3", str(error)) from None
    options = _options(rest, (b"NOTIFY", b"ORCPT"), extended=extended)
    notify, orcpt = options.get(b"NOTIFY"), options.get(b"ORCPT")
    wishes = () if notify is None else _notify(notify)
    if orcpt is not None:
        _check(b"ORCPT", _is_original_recipient(orcpt, utf8))
    _check_characters(recipient, utf8)
    return recipient, Wish(wishes, orcpt or b"")


def _behind(keyword: bytes, argument: bytes) -> bytes:
    """What follows the keyword; spaces there are against the standard and common."""
    if argument[: len(keyword)].upper() != keyword:
        raise Reply(501, "5.5.4", f"{keyword.decode('ascii')}<address> is needed")
    return argument[len(keyword) :].lstrip(b" ")


def _options(rest: bytes, offered: Iterable[bytes], *, extended: bool) -> dict[bytes, bytes]:
    try:
        options = parameters(rest)
    except BadAddress as error:
        raise Reply(501, "5.5.4", str(error)) from None
    for option in options:
        if not extended or option not in offered:
            raise Reply(555, "5.5.4", f"the parameter {option.decode('ascii')} is not offered here")
    return options


def _check(option: bytes, right: bool) -> None:
    if not right:
        raise Reply(501, "5.5.4", f"the parameter {option.decode('ascii')} has a value that can't be")


def _check_characters(address: bytes, utf8: bool) -> None:
    if not utf8 and not address.isascii():
        raise Reply(553, "5.6.7", "an address outside ASCII needs SMTPUTF8")


def _is_envelope_id(value: bytes) -> bool:
    return len(value) <= ENVID_LIMIT and _PRINTABLE.fullmatch(value) is not None


def _is_identity(value: bytes) -> bool:
    """Who handed the message in before us, or `<>`. It is believed by nobody here."""
    return 0 < len(value) <= AUTH_LIMIT and (value == b"<>" or _XTEXT.fullmatch(value) is not None)


def _notify(value: bytes) -> tuple[str, ...]:
    """RFC 3461 section 4.1: NEVER stands alone."""
    if not value.isascii():
        _check(b"NOTIFY", False)
    words = tuple(dict.fromkeys(value.decode("ascii").upper().split(",")))
    _check(b"NOTIFY", words == ("NEVER",) or all(word in _NOTIFY for word in words))
    return words


def _is_original_recipient(value: bytes, utf8: bool) -> bool:
    """An address type, a semicolon, xtext. Of the type utf-8 it may be UTF-8 as it is (RFC 6533 section 3)."""
    kind, _, address = value.partition(b";")
    if utf8 and kind.lower() == b"utf-8" and _is_printable_utf8(address):
        address = _NON_ASCII.sub(b"x", address)
    right = _ADDRESS_TYPE.fullmatch(kind) and _PRINTABLE.fullmatch(address)
    return len(value) <= ORCPT_LIMIT and right is not None


def _is_printable_utf8(text: bytes) -> bool:
    try:
        return text.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


_OF_MAIL: dict[bytes, Callable[[bytes], bool]] = {
    b"SIZE": lambda value: _SIZE.fullmatch(value) is not None,
    b"BODY": lambda value: value.upper() in (b"7BIT", b"8BITMIME"),  # RFC 6152
    b"SMTPUTF8": lambda value: not value,  # RFC 6531 section 3.1
    b"RET": lambda value: value.upper() in (b"FULL", b"HDRS"),
    b"ENVID": _is_envelope_id,
    b"AUTH": _is_identity,
}
