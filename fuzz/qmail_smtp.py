"""qmail-smtpd under atheris: no octets raise anything, mean something else in pieces, or get past a limit."""

from __future__ import annotations

import re
import sys

from pillarbox.protocol.qmail_smtp import BeginMessage, EndMessage, QmailSmtpSession, Recipient
from pillarbox.protocol.smtp_events import AbortMessage, MessageData

LINES = re.compile(rb"(?:[2345][0-9]{2}[ -][ -~]*\r\n)*")

Told = tuple[bytes, list[tuple[bytes, EndMessage]], int | None]


def talk(data: bytes, size: int) -> Told:
    """What was said, which messages came, and how it ended; yes or no by what the client says alone."""
    session = QmailSmtpSession(b"foo.com", data_limit=300, recipients_limit=3)
    output, content, messages = session.take_output(), b"", []
    for start in range(0, len(data), size):
        session.receive(data[start : start + size])
        while (event := session.next_event()) is not None:
            match event:
                case Recipient(address, _) if address.endswith(b"0"):
                    session.refuse(b"553 no")
                case Recipient(address, _):
                    session.recipient_accepted(address)
                case BeginMessage():
                    content = b""
                    session.message_begun()
                case MessageData(stored):
                    content += stored
                case EndMessage():
                    messages.append((b"" if event.fault else content, event))
                    session.refuse(event.fault) if event.fault else session.message_accepted(b"ok")
                case AbortMessage():
                    content = b""
        output += session.take_output()
    return output, messages, session.status


def one_input(data: bytes) -> None:
    data = (b"" if data[:1] == b"!" else b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n") + data
    output, messages, _ = whole = talk(data, len(data))
    assert whole == talk(data, 7) == talk(data, 1)
    assert LINES.fullmatch(output)
    for content, end in messages:
        assert len(end.recipients) <= 3 and not re.search(rb"[\0-\x1f\x7f]", b"".join((end.sender, *end.recipients)))
        assert end.fault or content == b"" or content.endswith(b"\n")


def main() -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
