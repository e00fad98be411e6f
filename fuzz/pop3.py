"""POP3 under atheris: no octets raise anything, hold more output than they may, or mean something else in pieces."""

from __future__ import annotations

import sys

from pillarbox.listing import Entry, Listing
from pillarbox.protocol.pop3 import DAEMON, HIGH_WATER, Event, Login, Pop3Session, Retrieve
from pillarbox.protocol.pop3_classic import CLASSIC
from pillarbox.protocol.pop3_dialect import Dialect
from pillarbox.protocol.scram import HASHES
from pillarbox.terms import Mechanism

LISTING = Listing.render([Entry(b"id%d" % number, 100 * number, 0) for number in range(1, 300)])
SASL = (*HASHES, Mechanism.CRAM_MD5, Mechanism.PLAIN, Mechanism.LOGIN)
ANSWER_LIMIT = 16 << 10  # octets of the longest answer, which is that of LIST or UIDL


def answer(session: Pop3Session, event: Event) -> None:
    """As a server would, yes or no, by what the client says alone."""
    if isinstance(event, Login):
        if event.attempt.proof.endswith(b"0"):
            session.refuse("wrong name or password", "AUTH", final=event.attempt.proof.startswith(b"0"))
        elif event.attempt.mechanism in HASHES and event.response != b"":
            session.login_challenged(b"go on")
        else:
            session.login_accepted(LISTING)
    elif isinstance(event, Retrieve):
        session.refuse("gone", "SYS/TEMP") if event.number % 2 else session.message_opened()
    else:
        session.updated(len(event.numbers) // 2)


def talk(data: bytes, size: int, dialect: Dialect) -> bytes:
    session, output = Pop3Session(b"foo.com", b"<1.2@foo.com>", plaintext=True, mechanisms=SASL, dialect=dialect), b""
    for start in range(0, len(data), size):
        session.receive(data[start : start + size])
        while (event := session.next_event()) is not None or session.held_back:
            taken = session.take_output()
            assert len(taken) <= HIGH_WATER + ANSWER_LIMIT
            output += taken
            if event is not None:
                answer(session, event)
    return output + session.take_output()


def one_input(data: bytes) -> None:
    data = (b"" if data[:1] == b"!" else b"APOP a 1\r\n") + data  # most of the protocol lies behind a login
    for dialect in (DAEMON, CLASSIC):
        assert talk(data, len(data), dialect) == talk(data, 7, dialect) == talk(data, 1, dialect)


def main() -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
