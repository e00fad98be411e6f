"""SMTP reception under atheris: no octets raise anything, hold more than they may, or mean something else in pieces."""

from __future__ import annotations

import sys

from pillarbox.protocol.smtp import HIGH_WATER, AbortMessage, BeginMessage, EndMessage, MessageData, SmtpSession

ANSWER_LIMIT = 2 << 10  # octets of the longest answer
MESSAGE_LIMIT = 1_000  # octets, so that it is reached
READY = b"EHLO a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n"
PRELUDES = {b"!": b"", b"*": READY + b"BDAT 20\r\n", b"#": READY + b"DATA\r\n"}


def talk(data: bytes, size: int, normalise: bool) -> tuple[bytes, list[bytes]]:
    """The output, and the messages that were accepted."""
    session = SmtpSession(b"foo.com", "192.0.2.7", octets_limit=MESSAGE_LIMIT, recipients_limit=3, normalise=normalise)
    output, message, accepted = b"", b"", list[bytes]()
    for start in range(0, len(data), size):
        session.receive(data[start : start + size])
        while (event := session.next_event()) is not None or session.held_back:
            taken = session.take_output()
            assert len(taken) <= HIGH_WATER + ANSWER_LIMIT
            output += taken
            if isinstance(event, MessageData):
                message += event.data
                assert len(message) <= MESSAGE_LIMIT
            elif isinstance(event, EndMessage):
                accepted.append(message)
                session.message_accepted("queued")
            elif isinstance(event, BeginMessage):
                message = b""
                session.message_begun()
            elif event is not None and not isinstance(event, AbortMessage):
                session.refuse(550, "5.1.1", "who?") if event.address[:1] == b"x" else session.recipient_accepted()
    return output + session.take_output(), accepted


def one_input(data: bytes) -> None:
    normalise = data[:1] < b"@"
    data = PRELUDES.get(data[1:2], READY) + data[2:]
    whole = talk(data, len(data) or 1, normalise)
    assert whole == talk(data, 7, normalise) == talk(data, 1, normalise)
    assert all(b"\r" not in message for message in whole[1])  # stored with LF


def main() -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
