"""Real mail clients, each told to fetch a maildrop as a person would tell it; the lines that worked, and their quirks.

A driver gives back what its client stored, with LF line ends, and without what that client is known to add or change.
"""

from __future__ import annotations

import email
import poplib
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

poplib._MAXLINE = 1 << 21  # type: ignore[attr-defined]  # poplib gives up at 2,048 octets; real mail has longer lines
CLIENT_SECONDS = 100  # below the limit of a whole test


@dataclass(frozen=True)
class Door:
    """Where and as whom a client logs in."""

    host: str
    port: int
    user: str
    secret: str
    apop: bool


class Client(ABC):
    """One mail client. `place` is an empty folder of the caller's, the client's home; its state stays there."""

    program: str  # what must be on the search path; empty: nothing
    package: str  # Debian's name for it
    keeps_state = False  # remembers uidls in `place`, and fetches only what is new
    verbatim = False  # keeps any octets, a bare CR, NUL, no header, no line at all
    can_plain = True  # can be told to use USER and PASS although APOP is offered

    def missing(self) -> str:
        """Why this client can't run here, or nothing."""
        found = not self.program or shutil.which(self.program)
        return "" if found else f"{self.program} is not installed (apt-get install {self.package})"

    @abstractmethod
    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        """All messages, in any order. Raises ClientFailed when the client says that it did not succeed."""

    def changed(self, message: bytes) -> bytes:
        """What this client is known to make of that message (LF line ends)."""
        return message

    def __repr__(self) -> str:
        return type(self).__name__.lower()


class ClientFailed(Exception):
    """The client's own report."""


class Poplib(Client):
    program = package = ""
    verbatim = True

    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        pop = poplib.POP3(door.host, door.port, timeout=CLIENT_SECONDS)
        try:
            return self._session(pop, door, delete)
        except poplib.error_proto as error:
            raise ClientFailed(repr(error)) from error
        finally:
            pop.close()

    @staticmethod
    def _session(pop: poplib.POP3, door: Door, delete: bool) -> list[bytes]:
        if door.apop:
            pop.apop(door.user, door.secret)
        else:
            pop.user(door.user)
            pop.pass_(door.secret)
        messages = []
        for number in range(1, pop.stat()[0] + 1):
            messages.append(b"".join(line + b"\n" for line in pop.retr(number)[1]))
            if delete:
                pop.dele(number)
        pop.quit()
        return messages


class Curl(Client):
    program = package = "curl"
    verbatim = True
    can_plain = False  # AUTH=+LOGIN is newer than Debian's 7.88, which takes APOP wherever it is offered

    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        fresh = _fresh(place)
        count = len(re.findall(rb"(?m)^[0-9]+ ", self._run(door, fresh, "")))
        if count:
            self._run(door, fresh, f"[1-{count}]", "-o", "#1.mail")
        if count and delete:
            self._run(door, fresh, f"[1-{count}]", "-X", "DELE", "-I")
        return _files(fresh)

    def changed(self, message: bytes) -> bytes:
        return message or b"\n"  # nothing becomes an empty line, in LIST too

    @staticmethod
    def _run(door: Door, place: Path, path: str, *options: str) -> bytes:
        login = f'user = "{door.user}:{door.secret}"\nlogin-options = "AUTH=+APOP"\n'
        command = ["curl", "-q", "-sS", "--config", "-", *options, f"pop3://{door.host}:{door.port}/{path}"]
        return _run(command, place, login)


class Fetchmail(Client):
    program = package = "fetchmail"
    keeps_state = True
    _CUT = re.compile(rb"\0.\n", re.DOTALL)  # 6.4.37 leaves these where a line goes over its buffer of 8,192 octets

    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        fresh = _fresh(place)
        _keeper(place)
        _private(
            place / "fetchmailrc",
            "defaults bad-header accept\n"
            f"poll {door.host} service {door.port} proto {'APOP' if door.apop else 'POP3 uidl'} timeout 60\n"
            f'user "{door.user}" password "{door.secret}" is postmaster here\n'
            f"{'nokeep' if delete else 'keep'} no rewrite no dropstatus no mimedecode fetchlimit 0\n"
            f"sslproto '' mda '{place}/keeper {fresh}'\n",
        )
        command = ["fetchmail", "--nodetach", "--nosyslog", "--invisible", "-f", "fetchmailrc", "-i", "ids"]
        _run([*command, "--pidfile", "pid"], place, nothing_new=1)
        return [self._CUT.sub(b"", message) for message in _files(fresh)]

    def changed(self, message: bytes) -> bytes:
        return message if b"\n\n" in message else message + b"\n"  # the empty line after a header without a body


class Mpop(Client):
    program = package = "mpop"
    keeps_state = True

    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        fresh = _fresh(place)
        for folder in ("tmp", "new", "cur"):
            (fresh / folder).mkdir()
        _private(
            place / "mpoprc",
            f"account it\nhost {door.host}\nport {door.port}\nuser {door.user}\npassword {door.secret}\n"
            f"auth {'apop' if door.apop else 'user'}\ntls off\nkeep {'off' if delete else 'on'}\n"
            f"received_header off\ndelivery maildir {fresh}\nuidls_file {place}/uidls\n",
        )
        _run(["mpop", "-q", "-C", "mpoprc", "it"], place)
        return _files(fresh / "new")


class Getmail(Client):
    program = "getmail"
    package = "getmail6"
    keeps_state = True
    _LOST = "waiting child pid"  # 6.18 misses the end of a delivery agent that is quicker than itself, and gives up
    _TRIES = 6

    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        fresh = _fresh(place)
        _keeper(place)
        _private(
            place / "getmailrc",
            f"[retriever]\ntype = SimplePOP3Retriever\nserver = {door.host}\nport = {door.port}\n"
            f"username = {door.user}\npassword = {door.secret}\nuse_apop = {door.apop}\ntimeout = 10\n"
            f"[destination]\ntype = MDA_external\npath = {place}/keeper\narguments = ('{fresh}',)\n"
            f"allow_root_commands = True\n"
            f"[options]\ndelete = {delete}\nread_all = False\nreceived = False\ndelivered_to = False\nverbose = 0\n",
        )
        lost_track = self._run(place)
        fetched = _files(fresh)
        return list(set(fetched)) if lost_track else fetched  # that message came a second time

    def _run(self, place: Path) -> bool:
        """Did it need several tries?"""
        for tried in range(self._TRIES):
            try:
                _run(["getmail", "--getmaildir", str(place), "--rcfile", "getmailrc"], place)
                return tried > 0
            except ClientFailed as error:
                if self._LOST not in str(error):
                    raise
        raise ClientFailed(f"getmail lost its delivery agent {self._TRIES} times")

    def changed(self, message: bytes) -> bytes:
        """It parses each message, writes it out anew, and puts its own Return-Path in place of all others."""
        parsed = email.message_from_bytes(message)
        sender = (parsed["Return-Path"] or "unknown").strip("<>")
        del parsed["Return-Path"]
        return b"Return-Path: <%b>\n" % sender.encode() + parsed.as_bytes()


class PerlNetPop3(Client):
    program = package = "perl"

    _SCRIPT = """
        use strict; use Net::POP3;
        my ($host, $port, $apop, $delete, $user, $secret) = map { chomp; $_ } <STDIN>;
        my $pop = Net::POP3->new($host, Port => $port, Timeout => 60) or die "connect: $@";
        my $count = $apop ? $pop->apop($user, $secret) : $pop->login($user, $secret);
        defined $count or die "login: " . $pop->message;
        for my $n (1 .. $count) {
            open my $file, '>:raw', "$n.mail" or die $!;
            $pop->get($n, $file) or die "get: " . $pop->message;
            close $file;
            !$delete or $pop->delete($n) or die "delete: " . $pop->message;
        }
        $pop->quit or die "quit: " . $pop->message;
    """

    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        fresh = _fresh(place)
        _run(["perl", "-e", self._SCRIPT], fresh, _asked(door, delete))
        return _files(fresh)


class RubyNetPop(Client):
    program = package = "ruby"
    verbatim = True

    _SCRIPT = """
        require "net/pop"
        host, port, apop, delete, user, secret = STDIN.read.split("\\n")
        Net::POP3.start(host, port.to_i, user, secret, apop == "1") do |pop|
          pop.each_mail do |mail|
            File.binwrite("#{mail.number}.mail", mail.pop)
            mail.delete if delete == "1"
          end
        end
    """

    def fetch(self, door: Door, place: Path, *, delete: bool = False) -> list[bytes]:
        fresh = _fresh(place)
        _run(["ruby", "-e", self._SCRIPT], fresh, _asked(door, delete))
        return _files(fresh)


CLIENTS: Sequence[Client] = (Poplib(), Curl(), Fetchmail(), Mpop(), Getmail(), PerlNetPop3(), RubyNetPop())


def _asked(door: Door, delete: bool) -> str:
    return f"{door.host}\n{door.port}\n{int(door.apop)}\n{int(delete)}\n{door.user}\n{door.secret}\n"


def _run(command: Sequence[str], place: Path, given: str = "", nothing_new: int = 0) -> bytes:
    """What it printed. `nothing_new`: an exit status that means success without a message."""
    done = subprocess.run(
        command,
        cwd=place,
        env={"HOME": str(place), "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "FETCHMAILHOME": str(place)},
        input=given.encode(),
        capture_output=True,
        timeout=CLIENT_SECONDS,
    )
    if done.returncode not in (0, nothing_new):
        said = (done.stderr + done.stdout).decode("latin-1")
        raise ClientFailed(f"{command[0]} ended with {done.returncode}: {said}")
    return done.stdout


def _fresh(place: Path) -> Path:
    """An empty folder for what this run fetches."""
    fresh = place / f"fetched-{len(list(place.glob('fetched-*')))}"
    fresh.mkdir()
    return fresh


def _keeper(place: Path) -> None:
    """A delivery agent that writes each message to a file of its own."""
    keeper = place / "keeper"
    keeper.write_text('#!/bin/sh\nexec cat >"$(mktemp "$1/XXXXXXXXXX")"\n')
    keeper.chmod(0o700)


def _private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes().replace(b"\r\n", b"\n") for path in folder.iterdir()]
