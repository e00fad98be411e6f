"""Small raw clients, for tests that must see every octet."""

import contextlib
import hashlib
import re
import socket


class Wire:
    """A connection with lines in and out."""

    def __init__(self, host, port, source=None, timeout=20):
        self.socket = socket.create_connection((host, port), timeout, (source, 0) if source else None)
        self._data = b""
        self.greeting = self.line()

    def line(self):
        while b"\r\n" not in self._data:
            more = self.socket.recv(65536)
            if not more:
                rest, self._data = self._data, b""
                return rest
            self._data += more
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def send(self, octets):
        self.socket.sendall(octets)

    def say(self, command):
        self.send(command + b"\r\n")
        return self.line()

    def lines(self):
        """A multi-line POP3 answer behind its first line."""
        found = []
        while (line := self.line()) != b".":
            found.append(line)
        return found

    def rest(self):
        """Everything until the server closes."""
        data, self._data = self._data, b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.socket.recv(65536):
                data += more
        return data

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Pop(Wire):
    def __init__(self, server, source=None, timeout=20):
        super().__init__(server.host, server.pop3_port, source, timeout)

    def apop(self, name, secret):
        challenge = re.search(rb"<[^>]+>", self.greeting)[0]
        digest = hashlib.md5(challenge + secret.encode()).hexdigest()
        return self.say(f"APOP {name} {digest}".encode())


class Smtp(Wire):
    def __init__(self, server, source=None, timeout=20):
        super().__init__(server.host, server.smtp_port, source, timeout)

    def reply(self):
        while (line := self.line())[3:4] == b"-":
            pass
        return line

    def ehlo(self):
        self.send(b"EHLO client.test\r\n")
        return self.reply()

    def envelope(self, *recipients):
        assert self.say(b"MAIL FROM:<sender@sender.test>").startswith(b"250")
        return [self.say(b"RCPT TO:<%b>" % recipient.encode()) for recipient in recipients]

    def message(self, content, *recipients, data=(b"354",)):
        """The reply to the message, or to DATA where that may be another than 354."""
        replies = self.envelope(*recipients)
        assert all(reply.startswith(b"250") for reply in replies), replies
        begun = self.say(b"DATA")
        assert begun[:3] in data, begun
        if not begun.startswith(b"354"):
            return begun
        self.send(content + b".\r\n")
        return self.line()
