"""What a stored message becomes on the wire: its octets (RFC 1939 section 11), and what its conversion needs.

A stored line ends at LF; one CR before that LF belongs to the line end; any other CR is data. On the wire every line
ends with CRLF, and a last line without an end is given one. An empty message is no line. Octets are counted before
dot-stuffing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A message's form is a sum of these; 0 says that nothing is known, and a reader then takes the general way.
LF_ONLY = 1  # no CRLF pair: each LF becomes CRLF, and that is all
CRLF_ONLY = 2  # no LF without its CR: line ends need no conversion
NO_DOTS = 4  # no line begins with a dot: nothing to stuff
ENDED = 8  # the last octet is LF, or the message is empty
UNKNOWN = 0

_DOT_LINE = re.compile(rb"\n\.")  # three times as fast as `b"\n." in data`


def survey(chunks: Iterable[bytes]) -> tuple[int, int]:
    """Octets on the wire and form of a stored message, given in chunks of any size."""
    size = lines = pairs = 0
    dots, last = False, b"\n"
    for chunk in chunks:
        if not chunk:
            continue
        size += len(chunk)
        lines += chunk.count(b"\n")
        pairs += last == b"\r" and chunk[:1] == b"\n"
        if b"\r" in chunk:  # a hundred times as fast as the count, and almost never true
            pairs += chunk.count(b"\r\n")
        dot = chunk.rfind(b".")  # in base64 it stands in the header: spares the slower search of the body
        if dot >= 0 and not dots:
            dots = (last == b"\n" and chunk[:1] == b".") or _DOT_LINE.search(chunk, 0, dot + 1) is not None
        last = chunk[-1:]
    ended = last == b"\n"
    form = LF_ONLY * (pairs == 0) + CRLF_ONLY * (pairs == lines) + NO_DOTS * (not dots) + ENDED * ended
    return size + lines - pairs + (0 if ended else 2), form
