"""What an SMTP server says: one line a reply, with an enhanced status code (RFC 2034).

A client that said HELO gets the codes too: to it they are words, and to whoever reads its log they are the reason.
"""

from __future__ import annotations

import re

TEXT_LIMIT = 480  # octets; RFC 5321 section 4.5.3.1.5: a reply line has at most 512
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class Reply(Exception):
    """What the client is told when something can't be done: reply code, enhanced code (RFC 3463) or empty, text."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code, self.enhanced, self.text = code, enhanced, text


class Output:
    """Replies that wait to be taken."""

    __slots__ = ("_lines", "refusals", "size")

    def __init__(self) -> None:
        self.refusals = 0  # 4xx and 5xx replies so far
        self.size = 0
        self._lines: list[bytes] = []

    def reply(self, code: int, enhanced: str, text: str) -> None:
        words = _CONTROL.sub(b"?", text.encode("ascii", "backslashreplace"))[:TEXT_LIMIT]
        if enhanced:
            self.say(b"%d %b %b\r\n" % (code, enhanced.encode("ascii"), words))
        else:
            self.say(b"%d %b\r\n" % (code, words))
        self.refusals += code >= 400

    def say(self, lines: bytes) -> None:
        """A reply that is ready, CRLF included."""
        self._lines.append(lines)
        self.size += len(lines)

    def take(self) -> bytes:
        lines, self._lines, self.size = b"".join(self._lines), [], 0
        return lines
