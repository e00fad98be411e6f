"""softlimit (daemontools): run a program with lower resource limits.

    softlimit [-a N] [-c N] [-d N] [-f N] [-l N] [-m N] [-o N] [-p N] [-r N] [-s N] [-t N] PROGRAM [ARG ...]

Octets: -a address space, -c core file, -d data, -f file written, -l locked memory, -r resident set, -s stack; -m is -a,
-d, -l and -s at once. Numbers: -o open files, -p processes of the user; -t seconds of processor time. N is decimal, or
`=` for the hard limit; a number above the hard limit is the hard limit. Descriptors and environment pass through.

Our own programs are Python: they need `-m 32000000` or more, where 3000000 was enough for the originals. With less than
half of that Python does not start, and may hang while it tries.

Exit status 100 for wrong usage, 111 for whatever else goes wrong here, else PROGRAM's.

Unlike the original it takes a number above 2^64 for what it says: there it is a small one.
"""

from __future__ import annotations

import resource

from . import chain
from .chain import MISUSED, TROUBLE, Environment, complain, die, words

_LIMITS = {
    b"a": (resource.RLIMIT_AS,),
    b"c": (resource.RLIMIT_CORE,),
    b"d": (resource.RLIMIT_DATA,),
    b"f": (resource.RLIMIT_FSIZE,),
    b"l": (resource.RLIMIT_MEMLOCK,),
    b"m": (resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_MEMLOCK, resource.RLIMIT_AS),
    b"o": (resource.RLIMIT_NOFILE,),
    b"p": (resource.RLIMIT_NPROC,),
    b"r": (resource.RLIMIT_RSS,),
    b"s": (resource.RLIMIT_STACK,),
    b"t": (resource.RLIMIT_CPU,),
}
_LARGEST = (1 << 63) - 1  # what the interpreter can hand to setrlimit
_SPARE = 64 << 10  # octets of a block that malloc takes from its heap, not from a mapping of its own
_USAGE = (
    "softlimit: usage: softlimit [-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] [-m membytes]"
    " [-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes] [-t cpusecs] child"
)


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs; never returns but by SystemExit."""
    wanted, program = _parse(arguments)
    if not program:
        die(MISUSED, _USAGE)
    spare = [bytearray(_SPARE) for _ in range(_blocks(program, environment))]
    above = bytearray(_SPARE)  # keeps the heap from being given back when the others are freed
    for limit, value in wanted:
        _set(limit, value)
    spare.clear()
    chain.run(program, environment, "softlimit")
    del above


def _parse(arguments: list[bytes]) -> tuple[list[tuple[int, bytes]], list[bytes]]:
    """The limits with their values, in the order given, and the program."""
    wanted: list[tuple[int, bytes]] = []
    rest = list(arguments)
    while rest and rest[0].startswith(b"-") and rest[0] != b"-":
        word = rest.pop(0)
        if word == b"--":
            break
        letter, value = word[1:2], word[2:]
        if letter not in _LIMITS:
            complain(b"softlimit: illegal option -- " + letter)
            die(MISUSED, _USAGE)
        if not value and not rest:
            complain(b"softlimit: option requires an argument -- " + letter)
            die(MISUSED, _USAGE)
        value = value or rest.pop(0)
        if value != b"=" and value.strip(b"0123456789"):
            die(MISUSED, _USAGE)
        wanted += [(limit, value) for limit in _LIMITS[letter]]
    return wanted, rest


def _blocks(program: list[bytes], environment: Environment) -> int:
    """How many blocks hold all that exec needs, several times over: below its new limit a process gets no memory."""
    octets = sum(map(len, program)) + sum(len(name) + len(value) for name, value in environment.items())
    return 4 + 8 * octets // _SPARE


def _set(limit: int, value: bytes) -> None:
    try:
        hard = resource.getrlimit(limit)[1]
        soft = hard if value == b"=" else _number(value, hard)
        resource.setrlimit(limit, (soft, hard))
    except (OSError, ValueError) as error:
        die(TROUBLE, f"softlimit: fatal: setrlimit failed: {words(error) if isinstance(error, OSError) else error}")


def _number(value: bytes, hard: int) -> int:
    digits = value.lstrip(b"0")[:20] or b"0"  # 20 digits are above any limit already
    if hard != resource.RLIM_INFINITY:
        return min(int(digits), hard)
    return int(digits) if int(digits) < _LARGEST else resource.RLIM_INFINITY
