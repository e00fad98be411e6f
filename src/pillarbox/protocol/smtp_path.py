"""The arguments of MAIL and RCPT: an address, and the parameters that extensions add (RFC 5321 section 4.1.1)."""

from __future__ import annotations

import re

from .address import BadAddress, parameters, parse_path
from .smtp_data import Reply

MAIL_PARAMETERS = {
    b"SIZE": re.compile(rb"[0-9]{1,10}"),  # RFC 1870
    b"BODY": re.compile(rb"7BIT|8BITMIME"),  # RFC 6152
    b"SMTPUTF8": re.compile(rb""),  # RFC 6531
}


def path_argument(
    keyword: bytes, argument: bytes, known: dict[bytes, re.Pattern[bytes]]
) -> tuple[bytes, dict[bytes, bytes]]:
    """The address and the parameters of MAIL or RCPT. Raises Reply."""
    if argument[: len(keyword)].upper() != keyword:
        raise Reply(501, "5.5.4", f"{keyword.decode('ascii')}<address> is needed")
    try:
        path, rest = parse_path(argument[len(keyword) :].lstrip(b" "))
    except BadAddress as error:
        raise Reply(553, "5.1.3", str(error)) from None
    try:
        options = parameters(rest)
    except BadAddress as error:
        raise Reply(501, "5.5.4", str(error)) from None
    for option, value in options.items():
        if option not in known:
            raise Reply(555, "5.5.4", f"{option.decode('ascii')} is not offered here")
        if not known[option].fullmatch(value.upper()):
            raise Reply(501, "5.5.4", f"{option.decode('ascii')} has a value that can't be")
    return path, options
