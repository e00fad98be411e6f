"""POP3 against a small model of it, which shares no line with the session: what RFC 1939 says, with plain lists."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pillarbox.protocol.pop3 import Login, State

from .pop3_talk import CHALLENGE, DIGEST, Caller, No, session

Reply = tuple[str, str | None, list[bytes] | None]  # +OK or -ERR; the rest of that line, None: any; lines up to the dot
NO: Reply = ("-ERR", None, None)
YES: Reply = ("+OK", None, None)
PASSWORD = b"tan  staaf "
KNOWN = {
    "USER",
    "PASS",
    "APOP",
    "STAT",
    "LIST",
    "RETR",
    "DELE",
    "NOOP",
    "RSET",
    "TOP",
    "UIDL",
    "QUIT",
    "CAPA",
    "AUTH",
    "LANG",
    "LAST",
    "STLS",
    "UTF8",
    "XTND",
}
BAD_BEFORE, BAD_AFTER, FAILURES = 3, 20, 3


def wire_lines(stored: bytes) -> list[bytes]:
    """The lines of a message as a client gets them, before dot-stuffing."""
    *ended, rest = stored.split(b"\n")
    return [line.removesuffix(b"\r") for line in ended] + ([rest] if rest else [])  # a CR that no LF follows is data


class Model:
    """One session: feed() takes octets, and gives what must be answered."""

    def __init__(self, maildrop: dict[str, list[bytes]]) -> None:
        self.maildrop = maildrop  # what is there, by unique id; QUIT removes from it
        self.messages = list(maildrop.items())
        self.gone: set[int] = set()
        self.state = State.AUTHORIZATION
        self.user: bytes | None = None
        self.bad, self.failures = BAD_BEFORE, 0
        self.unread = b""

    def feed(self, data: bytes) -> list[Reply]:
        replies: list[Reply] = []
        self.unread += data
        while self.state is not State.CLOSED and b"\n" in self.unread:
            line, self.unread = self.unread.split(b"\n", 1)
            replies.append(self.obey(line.removesuffix(b"\r")))
        return replies

    def obey(self, line: bytes) -> Reply:
        verb, _, argument = line.partition(b" ")
        name = verb.decode("latin-1")
        word = name.upper() if name.isascii() else ""
        if word == "CAPA":
            return "+OK", None, [*b"TOP UIDL PIPELINING RESP-CODES AUTH-RESP-CODE".split(b" "), b"EXPIRE NEVER",
                                 b"IMPLEMENTATION Pillarbox", b"USER"]  # fmt: skip
        if word == "QUIT":
            for number in self.gone:
                del self.maildrop[self.messages[number - 1][0]]
            self.state = State.CLOSED
            return YES
        return self.before(word, argument) if self.state is State.AUTHORIZATION else self.after(word, argument)

    def before(self, word: str, argument: bytes) -> Reply:
        if word == "USER":
            self.user = argument if re.fullmatch(rb"[^\x00-\x20\x7f]{1,128}", argument) else None
            return YES if self.user else NO
        if word == "PASS":
            user, self.user = self.user, None
            return NO if user is None else self.judged(user == b"mrose" and argument == PASSWORD)
        if word == "APOP":
            attempt = re.fullmatch(rb"([^\x00-\x20\x7f]{1,128}) ([^ ]*)", argument, re.DOTALL)
            return self.judged(attempt[1] == b"mrose" and attempt[2] == DIGEST) if attempt else NO
        return self.unknown(word)

    def judged(self, right: bool) -> Reply:
        self.failures += not right
        if right:
            self.state, self.bad = State.TRANSACTION, BAD_AFTER
        elif self.failures == FAILURES:
            self.state = State.CLOSED
        return YES if right else NO

    def unknown(self, word: str) -> Reply:
        self.bad -= word not in KNOWN
        if self.bad == 0:
            self.state = State.CLOSED
        return NO

    def after(self, word: str, argument: bytes) -> Reply:
        if word == "NOOP":
            return YES
        if word == "RSET":
            self.gone.clear()
            return YES
        if word == "STAT":
            return "+OK", f"{len(self.left())} {sum(self.octets(n) for n in self.left())}", None
        if word in ("LIST", "UIDL"):
            return self.scan(argument, lambda n: f"{n} {self.octets(n) if word == 'LIST' else self.messages[n - 1][0]}")
        if word in ("RETR", "TOP", "DELE"):
            return self.message(word, argument)
        return self.unknown(word)

    def scan(self, argument: bytes, show) -> Reply:  # type: ignore[no-untyped-def]
        if not argument:
            return "+OK", None, [show(number).encode() for number in self.left()]
        number = self.number(argument)
        return ("+OK", show(number), None) if number else NO

    def message(self, word: str, argument: bytes) -> Reply:
        first, _, second = re.sub(b" +", b" ", argument).partition(b" ") if word == "TOP" else (argument, b"", b"0")
        number = self.number(first)
        if not number or not re.fullmatch(rb"\d{1,10}", second) or argument.startswith(b" "):
            return NO
        lines = self.messages[number - 1][1]
        if word == "DELE":
            self.gone.add(number)
            return YES
        if word == "TOP":
            body = lines.index(b"") + 1 if b"" in lines else len(lines)
            return "+OK", None, lines[: body + int(second)]
        return "+OK", f"{self.octets(number)} octets", lines

    def number(self, argument: bytes) -> int:
        """A message that is there, or 0."""
        number = int(argument) if re.fullmatch(rb"\d{1,10}", argument) else 0
        return number if number in self.left() else 0

    def left(self) -> list[int]:
        return [number for number in range(1, len(self.messages) + 1) if number not in self.gone]

    def octets(self, number: int) -> int:
        return sum(len(line) + 2 for line in self.messages[number - 1][1])


def read(output: bytes, expected: list[Reply]) -> bytes:
    """Hold the output against the replies expected; what is left over comes back."""
    for status, rest, lines in expected:
        line, output = output.split(b"\r\n", 1)
        assert line.split(b" ")[0].decode() == status, (line, expected)
        assert rest is None or line == f"{status} {rest}".encode(), (line, rest)
        if lines is not None:
            body, output = output.split(b".\r\n", 1) if output.startswith(b".\r\n") else output.split(b"\r\n.\r\n", 1)
            got = body.split(b"\r\n") if body or lines else []
            assert [line.removeprefix(b".") for line in got] == lines
    return output


STORED = st.lists(
    st.sampled_from([b"S: x", b"\n", b"\r\n", b".", b"\n.\n", b"\n\n", b"\r", b"\xff\0"]), min_size=1, max_size=9
)
NUMBERS = st.sampled_from([b"1", b"2", b"3", b"4", b"03", b"0", b"-1", b"1 2", b"x", b"", b"99999999999"])
VERBS = [b"STAT", b"LIST", b"UIDL", b"RETR", b"DELE", b"NOOP", b"RSET", b"TOP", b"dele", b"Retr", b"CAPA", b"LAST"]
LOGINS = [b"USER mrose", b"USER nobody", b"USER", b"USER a b", b"PASS", b"PASS x", b"PASS " + PASSWORD]
LOGINS += [b"APOP mrose " + DIGEST, b"APOP mrose " + DIGEST.upper(), b"APOP " + DIGEST, b"APOP", b"CAPA", b"NOOP"]
COMMANDS = st.builds(lambda verb, number: verb + b" " + number if number else verb, st.sampled_from(VERBS), NUMBERS)
TOPS = st.builds(b"TOP %b %b".__mod__, st.tuples(NUMBERS, NUMBERS))
NOISE = st.lists(st.sampled_from([b"\0", b" ", b"\r", b"QUI", b"LIST", b"\xff", b"1"]), max_size=4).map(b"".join)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\n"])


def pipelined(line: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.tuples(line, ENDS).map(b"".join), max_size=6).map(b"".join)


class Conversation(RuleBasedStateMachine):
    """Sessions one after another on one maildrop; what one removed, or didn't, the next one sees."""

    @initialize(stored=st.lists(STORED.map(b"".join), max_size=4))
    def fill(self, stored: list[bytes]) -> None:
        self.stored = {f"u{n}": message for n, message in enumerate(stored, 1)}
        self.connect()

    def connect(self) -> None:
        # The ids that a listing shows are numbered anew each time, so the model's are too.
        self.stored = {f"u{n}": message for n, message in enumerate(self.stored.values(), 1)}
        self.maildrop = {uidl: wire_lines(message) for uidl, message in self.stored.items()}
        self.model = Model(self.maildrop)
        failures = 0

        def judge(event: object) -> No | None:
            nonlocal failures
            if not isinstance(event, Login):
                return None
            attempt = event.attempt
            proof = DIGEST if attempt.challenge == CHALLENGE and attempt.mechanism.value == "APOP" else PASSWORD
            if attempt.name == b"mrose" and attempt.proof == proof:
                return None
            failures += 1
            return No("no", "AUTH", failures == FAILURES)

        self.caller = Caller(session(), list(self.stored.values()), judge)
        self.caller.feed(b"")
        assert read(self.caller.talk.output, [YES]) == b""

    def say(self, data: bytes, cuts: list[int]) -> None:
        self.caller.talk.output = b""
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in pairwise(places):
            self.caller.feed(data[start:end])
        assert read(self.caller.talk.output, self.model.feed(data)) == b""

    cuts = st.lists(st.integers(0, 120), max_size=3)

    @rule(data=pipelined(st.sampled_from(LOGINS)), cuts=cuts)
    def try_to_log_in(self, data: bytes, cuts: list[int]) -> None:
        self.say(data, cuts)

    @precondition(lambda self: self.model.state is State.AUTHORIZATION and not self.model.unread)
    @rule(cuts=cuts)
    def log_in(self, cuts: list[int]) -> None:
        self.say(b"APOP mrose " + DIGEST + b"\r\n", cuts)

    @precondition(lambda self: self.model.state is State.TRANSACTION)
    @rule(data=pipelined(COMMANDS | TOPS), cuts=cuts)
    def use(self, data: bytes, cuts: list[int]) -> None:
        self.say(data, cuts)

    @rule(data=NOISE, cuts=cuts)
    def make_noise(self, data: bytes, cuts: list[int]) -> None:
        if len(self.model.unread) < 200:
            self.say(data, cuts)

    @rule(ending=st.sampled_from([b"\r\nQUIT\r\n", b"\r\nQUIT\r\nSTAT\r\n", b""]))
    def leave(self, ending: bytes) -> None:
        """With QUIT what is deleted goes; a lost line removes nothing."""
        self.say(ending, [])
        updated = self.caller.talk.removed
        assert len(self.maildrop) == len(self.stored) - updated
        self.stored = {uidl: message for uidl, message in self.stored.items() if uidl in self.maildrop}
        self.connect()

    @invariant()
    def states_agree(self) -> None:
        assert self.caller.session.state is self.model.state
        if self.model.state is State.TRANSACTION:
            gone = {n for n in range(1, len(self.stored) + 1) if self.caller.session.is_deleted(n)}
            assert gone == self.model.gone


Conversation.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestConversation = Conversation.TestCase
