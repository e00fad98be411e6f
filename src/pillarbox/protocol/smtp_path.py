"""The arguments of MAIL and RCPT: an address, and the parameters that extensions add (RFC 5321 section 4.1.1)."""

from __future__ import annotations

import re

from .address import BadAddress, forward_path, parameters, reverse_path
from .smtp_reply import Reply

_PARAMETERS = {
    b"SIZE": re.compile(rb"[0-9]{1,20}"),  # RFC 1870 section 3
    b"BODY": re.compile(rb"7BIT|8BITMIME"),  # RFC 6152
    b"SMTPUTF8": re.compile(rb""),  # RFC 6531 section 3.1: no value
}


def mail_argument(argument: bytes, *, extended: bool) -> tuple[bytes, int, bool]:
    """The sender (the null one: empty), the declared octets (0: none declared), and whether UTF-8 was asked for.

    `extended`: the client said EHLO, and may use parameters. Raises Reply.
    """
    path = _behind(b"FROM:", argument)
    try:
        sender, rest = reverse_path(path)
    except BadAddress as error:
        raise Reply(553, "5.1.7", str(error)) from None
    options = _options(rest)
    for option, value in options.items():
        if not extended or option not in _PARAMETERS:
            raise Reply(555, "5.5.4", f"the parameter {option.decode('ascii')} is not offered here")
        if not _PARAMETERS[option].fullmatch(value.upper()):
            raise Reply(501, "5.5.4", f"the parameter {option.decode('ascii')} has a value that can't be")
    utf8 = b"SMTPUTF8" in options
    _check_characters(sender, utf8)
    return sender, int(options.get(b"SIZE", b"0")), utf8


def rcpt_argument(argument: bytes, *, utf8: bool) -> bytes:
    """The recipient. `utf8`: this transaction has SMTPUTF8. Raises Reply."""
    path = _behind(b"TO:", argument)
    try:
        recipient, rest = forward_path(path)
    except BadAddress as error:
        raise Reply(553, "5.1.3", str(error)) from None
    if options := _options(rest):
        raise Reply(555, "5.5.4", f"the parameter {next(iter(options)).decode('ascii')} is not offered here")
    _check_characters(recipient, utf8)
    return recipient


def _behind(keyword: bytes, argument: bytes) -> bytes:
    """What follows the keyword; spaces there are against the standard and common."""
    if argument[: len(keyword)].upper() != keyword:
        raise Reply(501, "5.5.4", f"{keyword.decode('ascii')}<address> is needed")
    return argument[len(keyword) :].lstrip(b" ")


def _options(rest: bytes) -> dict[bytes, bytes]:
    try:
        return parameters(rest)
    except BadAddress as error:
        raise Reply(501, "5.5.4", str(error)) from None


def _check_characters(address: bytes, utf8: bool) -> None:
    if not utf8 and not address.isascii():
        raise Reply(553, "5.6.7", "an address outside ASCII needs SMTPUTF8")
