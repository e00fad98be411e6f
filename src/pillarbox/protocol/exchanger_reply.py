"""What another host's SMTP reply means for a recipient (RFC 5321 section 4.2, RFC 3463). Its text is a stranger's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..terms import Outcome

TEXT_LIMIT = 400  # characters of a reply that are kept, in the queue's files and in reports
PASSED_ON = "the wish to hear of success was passed on: the next host reports"  # RFC 3461 section 5.2.1

_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_REPEATED = re.compile(r"\n(?:[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.]) ?)?")
_UNSAFE = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class ExchangerReply:
    """A reply that is fit to be kept: its code, and its text in one line of printable ASCII."""

    code: int
    text: str

    @property
    def positive(self) -> bool:
        return self.code // 100 == 2

    @property
    def transient(self) -> bool:
        return self.code // 100 == 4

    @property
    def known(self) -> bool:
        """Does the code answer a command (RFC 5321 section 4.2.1)? All but 354, which is for DATA alone."""
        return self.code // 100 in (2, 4, 5)

    @property
    def status(self) -> str:
        """The enhanced code if there is one that agrees with the reply code, else what can be said without."""
        found = _ENHANCED.match(self.text)
        kind = self.code // 100
        return found[0] if found and int(found[1]) == kind else f"{kind}.0.0"

    def outcome(self, mta: str) -> Outcome:
        """Of the recipients that it decides about. `mta`: who said it."""
        said = f"{self.code} {self.text}".rstrip(" ")
        if self.positive:
            return Outcome("relayed", self.status, mta=mta, reply=said)
        if self.code // 100 == 5:
            return Outcome("failed", self.status, mta=mta, reply=said)
        return Outcome("delayed", self.status if self.transient else "4.5.0", mta=mta, reply=said)


def reply(code: int, text: str) -> ExchangerReply:
    """Of a reply as it came, its lines joined by LF; an enhanced code that each line repeats is kept once."""
    line = _REPEATED.sub(" ", text[: 4 * TEXT_LIMIT])
    return ExchangerReply(code, _UNSAFE.sub("?", line)[:TEXT_LIMIT])


def first_word(text: str) -> str:
    """The name by which a host greets (RFC 5321 section 4.2), in lower case."""
    return text.partition("\n")[0].partition(" ")[0].lower()
