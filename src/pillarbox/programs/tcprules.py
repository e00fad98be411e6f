"""tcprules (ucspi-tcp): compile rules for tcpserver.

    tcprules CDB TMP < RULES

Reads rules from descriptor 0 and writes them to TMP, which then becomes CDB in one step: whoever reads CDB meanwhile sees
the old rules or the new ones. TMP must lie in the file system of CDB.

A rule is a line `WHO:allow` or `WHO:deny`, and behind it any number of `,NAME="VALUE"` for the environment of the
program; any octet may stand for the quotes. A line that is empty, begins with `#`, or has no colon is no rule. WHO is,
in the order in which rules are looked for, `info@192.0.2.1` or `info@=host.example` (info: what the client's ident
server says), `192.0.2.1`, `=host.example`, `192.0.2.` and shorter, `=.example`, `=` (any known host), or nothing, for
all others. The first that fits decides alone; of two for the same, the upper one. `192.0.2-7.` is six rules.

    127.:allow,RELAYCLIENT=""
    192.0.2-7.:deny
    :allow

Exit status 0: CDB is there, and durable; 100: a line can't be parsed, or arguments are missing; 111: trouble with a file.
Unless 0, CDB is as it was, and TMP may be left behind.

Departs from the original: addresses may be IPv6 (`::1:allow`, `2001:db8::deny`), and `::ffff:1.2.3.4` is 1.2.3.4; the
folder of CDB is made durable, too.
"""

from __future__ import annotations

import os

from ..policy.tcprules import Records, Unparsable, records, trimmed
from ..store import cdb
from . import chain
from .chain import MISUSED, TROUBLE, Environment, die, words

INPUT_LIMIT = 256 << 20  # octets of rules; some millions of lines
MODE = 0o644  # less what the caller's umask takes away


def main(arguments: list[bytes], environment: Environment) -> int:
    if len(arguments) < 2:
        die(MISUSED, "tcprules: usage: tcprules rules.cdb rules.tmp")
    path, temporary = arguments[:2]
    try:
        output = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, MODE)
    except OSError as error:
        die(TROUBLE, f"tcprules: fatal: unable to create {os.fsdecode(temporary)}: {words(error)}")
    compiled = _compiled(_input())
    try:
        chain.write_all(output, cdb.content(compiled))
    except OSError as error:
        die(TROUBLE, f"tcprules: fatal: unable to write to {os.fsdecode(temporary)}: {words(error)}")
    try:
        cdb.finish(output, temporary, path)
    except OSError as error:
        move = f"unable to move {os.fsdecode(temporary)} to {os.fsdecode(path)}"
        die(TROUBLE, f"tcprules: fatal: {move}: {words(error)}")
    return 0


def _input() -> bytes:
    try:
        content = chain.read_all(0, INPUT_LIMIT)
    except OSError as error:
        die(TROUBLE, f"tcprules: fatal: unable to read input: {words(error)}")
    if len(content) > INPUT_LIMIT:
        die(TROUBLE, "tcprules: fatal: unable to read input: file too big")
    return content


def _compiled(content: bytes) -> Records:
    compiled: Records = []
    for line in content.split(b"\n"):
        line = trimmed(line)
        try:
            compiled += records(line)
        except Unparsable:
            die(MISUSED, b"tcprules: fatal: unable to parse this line: " + line.partition(b"\0")[0])
    return compiled
