"""What lies in a Maildir: its messages in their stable order, each read once at most."""

from __future__ import annotations

import errno
import os
import resource
import stat
import time
from array import array
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..listing import EMPTY, MESSAGES_LIMIT, Listing
from ..wire_form import ENDED, survey
from . import maildir_names as names

if TYPE_CHECKING:
    from concurrent.futures import Executor

CHUNK = 64 << 10  # octets of one read; below malloc's threshold for a mapping of its own
COARSE_TICK = 2_000_000_000  # nanoseconds: a file system that keeps whole (or, FAT, even) seconds
FINE_TICK = 50_000_000  # the kernel's clock for time stamps moves every 1 to 10 ms; a margin on top
LISTINGS_LIMIT = 3  # of a directory that changes while it is listed: a busy one must not be listed for ever
FEW = 8  # messages that came since: so many are appended to what was rendered
BATCH = 64  # messages looked at before asking again whether they come from the disk
READERS = 4  # threads that wait for a cold disk; more of them fight over the interpreter instead
# Errors that say nothing about the message itself: to leave it out would tell the client that it is gone.
_OUR_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

Value = TypeVar("Value")


class Facts(NamedTuple):
    """What is known of a message, whatever its flags: octets on the wire, form, mtime in seconds where that matters."""

    octets: int
    form: int
    mtime: int


class Stamp(NamedTuple):
    """The directories as they were before they were listed: inode and times of new and of cur."""

    new: tuple[int, int, int]
    cur: tuple[int, int, int]


class Files:
    """ "new/NAME" or "cur/NAME" of each message, in the listing's order; two byte strings, whatever their number."""

    __slots__ = ("starts", "text")

    def __init__(self, text: bytes | memoryview, starts: Sequence[int]) -> None:
        """`text`: each file, ended by NUL; `starts`: where each begins, and the length of the text."""
        self.text = text
        self.starts = starts

    @classmethod
    def of(cls, files: Sequence[bytes]) -> Files:
        starts = array("I", accumulate((len(file) + 1 for file in files), initial=0))
        return cls(b"\0".join((*files, b"")), starts)

    def __getitem__(self, number: int) -> bytes:
        """The file of message `number`, 1 to count."""
        return bytes(self.text[self.starts[number - 1] : self.starts[number] - 1])

    def all(self) -> list[bytes]:
        return bytes(self.text).split(b"\0")[:-1]


class Scan(NamedTuple):
    """One reading of a Maildir."""

    stamp: Stamp
    safe: bool  # no change since then can hide within the stamp's tick
    listing: Listing
    files: Files
    mtimes: Mapping[bytes, int]  # whole seconds, by file, of those whose name does not begin with an integer


ABSENT = (0, 0, 0)
NOTHING = Scan(Stamp(ABSENT, ABSENT), False, EMPTY, Files.of(()), {})


def stamp(path: bytes) -> Stamp:
    """The directories as they are now."""
    return Stamp(_one(path + b"/new"), _one(path + b"/cur"))


def _one(path: bytes) -> tuple[int, int, int]:
    """The change time, which nobody can set, tells of every change; the other two make a restored copy another one."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return ABSENT
    return state.st_ino, state.st_mtime_ns, state.st_ctime_ns


def is_safe(seen: Stamp, now: int) -> bool:
    """A stamp taken at `now` (ns): a later change can leave it as it is only within the same tick of the clock."""
    for _, _, changed in seen:
        tick = COARSE_TICK if changed % 1_000_000_000 == 0 else FINE_TICK
        if changed and now - changed < tick:
            return False
    return True


def scan(path: bytes, before: Scan = NOTHING, delivered: Mapping[bytes, Facts] | None = None) -> Scan:
    """Read the directories; only messages that are neither in `before` nor `delivered` (by base name) are looked at.

    A base name stands for one content for ever: that is what a Maildir promises its readers.
    Raises OSError when the Maildir can't be read; one that is not there is empty.
    """
    seen, safe, found = directories(path)
    old = before.files.all()
    appeared, vanished = _differences(old, found)
    facts = _facts(path, before, delivered or {}, moves(vanished, appeared), appeared)
    if not facts and not vanished:
        return before._replace(stamp=seen, safe=safe)
    appended = None if vanished or len(facts) > FEW else _append(before, facts)
    listing, files, mtimes = appended or _render(path, before, old, found, facts)
    return Scan(seen, safe, listing, files, mtimes)


def directories(path: bytes) -> tuple[Stamp, bool, list[bytes]]:
    """Files of new, then of cur: what is moved meanwhile is seen twice rather than not at all.

    Listed again if they change meanwhile: readdir may leave a file out that is being renamed.
    """
    for _ in range(LISTINGS_LIMIT):
        now = time.time_ns()
        seen = stamp(path)
        found = _list(path, b"new/") + _list(path, b"cur/")
        if stamp(path) == seen:
            break
    if len(found) > MESSAGES_LIMIT:
        found = sorted(found, key=lambda file: file[4:])[:MESSAGES_LIMIT]
    return seen, is_safe(seen, now), found


def _list(path: bytes, folder: bytes) -> list[bytes]:
    try:
        return [folder + name for name in os.listdir(path + b"/" + folder) if not name.startswith(b".")]
    except FileNotFoundError:
        return []


def _differences(old: list[bytes], found: list[bytes]) -> tuple[Collection[bytes], Collection[bytes]]:
    """What has appeared, and what has vanished."""
    if not old:
        return found, ()
    before, now = set(old), set(found)
    return now - before, before - now


def moves(vanished: Collection[bytes], appeared: Collection[bytes]) -> dict[bytes, bytes]:
    """Vanished files by the file they have become: the only ones of their base name to vanish and to appear."""
    if not vanished or not appeared:
        return {}
    before, now = _by_base(vanished), _by_base(appeared)
    return {file: before[plain] for plain, file in now.items() if file and before.get(plain)}


def _by_base(files: Collection[bytes]) -> dict[bytes, bytes]:
    """One file of each base name; an empty one where there are several."""
    found: dict[bytes, bytes] = {}
    for file in files:
        plain = names.base(file[4:])
        found[plain] = b"" if plain in found else file
    return found


def _facts(
    path: bytes,
    before: Scan,
    delivered: Mapping[bytes, Facts],
    moved: Mapping[bytes, bytes],
    appeared: Collection[bytes],
) -> dict[bytes, Facts]:
    """Of each message that has appeared, known or looked up."""
    facts: dict[bytes, Facts] = {}
    if moved:
        sources = set(moved.values())
        places = {file: place for place, file in enumerate(before.files.all(), 1) if file in sources}
        for file, was in moved.items():
            place = places[was]
            facts[file] = Facts(before.listing.size(place), before.listing.form(place), before.mtimes.get(was, 0))
    for file in appeared:
        if known := delivered.get(names.base(file[4:])):
            facts[file] = known
    facts.update(_look_all(path, [file for file in appeared if file not in facts]))
    return facts


def _append(before: Scan, facts: Mapping[bytes, Facts]) -> tuple[Listing, Files, Mapping[bytes, int]] | None:
    """The usual change: few messages, later than all others, none a twin. None if it is not so."""
    count = before.listing.count
    mtimes = {**before.mtimes, **_mtimes(facts)}
    order = _order(mtimes)
    files = names.in_order(list(facts), mtimes)
    ids = names.uidls(files)
    early = count and order(before.files[count]) > order(files[0])
    if early or len(_by_base(files)) < len(files) or any(uidl in before.listing for uidl in ids):
        return None
    octets = [facts[file].octets for file in files]
    listing = before.listing.continued(count, ids, octets, bytes(facts[file].form for file in files))
    return listing, Files.of([*before.files.all(), *files]), mtimes


def _render(
    path: bytes, before: Scan, old: list[bytes], found: list[bytes], facts: dict[bytes, Facts]
) -> tuple[Listing, Files, Mapping[bytes, int]]:
    """The general way: what is left of the old ones, in its order, and what has appeared in between."""
    twins = _twins(found) if len(found) > len(facts) else []  # else all were looked at just now
    if twins:
        facts = {file: fact for file, fact in facts.items() if file not in twins} | _look_all(path, twins)
    left = set(found).difference(twins)
    octets, forms = before.listing.columns()
    kept = [place for place, file in enumerate(old) if file in left]
    mtimes = {file: when for file, when in before.mtimes.items() if file in left} | _mtimes(facts)
    order = _order(mtimes)
    new = names.in_order(list(facts), mtimes)
    known = [facts[file] for file in new]
    files = [old[place] for place in kept]
    places = [bisect(files, order(file), key=order) for file in new] if files else []
    files = _spliced(files, places, new)
    listing = EMPTY.continued(
        0,
        names.uidls(files),
        _spliced([octets[place] for place in kept], places, [fact.octets for fact in known]),
        bytes(_spliced([forms[place] for place in kept], places, [fact.form for fact in known])),
    )
    return listing, Files.of(files), mtimes


def _twins(found: list[bytes]) -> list[bytes]:
    """Files that share a base name. Most often one of them has just been moved; only a look tells which is there."""
    plain = [file[4:].partition(b":")[0] for file in found]
    if len(set(plain)) == len(plain):
        return []
    counts = Counter(plain)
    return [file for file, name in zip(found, plain, strict=True) if counts[name] > 1]


def _mtimes(facts: Mapping[bytes, Facts]) -> dict[bytes, int]:
    return {file: fact.mtime for file, fact in facts.items() if not names.is_timed(file)}


def _order(mtimes: Mapping[bytes, int]) -> Callable[[bytes], bytes]:
    if not mtimes:
        return partial(names.order, mtime=0)
    return lambda file: names.order(file, mtimes.get(file, 0))


def _spliced(column: list[Value], places: Sequence[int], values: Sequence[Value]) -> list[Value]:
    """Each value put in before the place that it has in the column; places ascend."""
    if not column:
        return list(values)
    result: list[Value] = []
    start = 0
    for place, value in zip(places, values, strict=True):
        result += column[start:place]
        result.append(value)
        start = place
    return result + column[start:]


def _look_all(path: bytes, files: Sequence[bytes]) -> dict[bytes, Facts]:
    """Facts of those that are messages. One by one out of the page cache, by several threads from a disk."""
    if not files:
        return {}
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # a shorter way to each file
    readers: Executor | None = None
    facts: list[Facts | None] = []
    cold, place = False, 0
    try:
        while place < len(files):
            width = 4 * READERS if cold else 1
            ends = range(place + BATCH, place + BATCH * width + 1, BATCH)
            if cold and readers is None:
                readers = _readers()
            spread = readers.map if cold and readers else map
            looked = list(spread(partial(_look_batch, root), [files[n - BATCH : n] for n in ends]))
            facts += chain.from_iterable(found for found, _ in looked)
            cold = any(waited for _, waited in looked)
            place = ends[-1]
    finally:
        if readers is not None:
            readers.shutdown(cancel_futures=True)
        os.close(root)
    return {file: fact for file, fact in zip(files, facts, strict=True) if fact is not None}


def _readers() -> Executor:
    from concurrent.futures import ThreadPoolExecutor  # loads `logging`, too: nothing for a program of one login

    return ThreadPoolExecutor(READERS)


def _look_batch(root: int, batch: Sequence[bytes]) -> tuple[list[Facts | None], bool]:
    """What `_look` says of each, and did most of them come from the disk?"""
    before = _disk_reads()
    facts = [_look(root, file) for file in batch]
    return facts, (_disk_reads() - before) * 2 > len(batch)


def _disk_reads() -> int:
    """By this thread, so far. Measuring time instead would take a busy processor for a slow disk."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


# O_NONBLOCK: a FIFO that has taken a message's place must not hold us up.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _look(root: int, file: bytes) -> Facts | None:
    """What a message's name says if that can be so, or else what its content does. None: no message, or just gone."""
    try:
        descriptor = os.open(file, READ_FLAGS, dir_fd=root)
        try:
            return _look_into(descriptor, file)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _OUR_TROUBLE:
            raise
        return None


def _look_into(descriptor: int, file: bytes) -> Facts | None:
    stored, wire = names.sizes(file)
    # A name that lies about one size is not believed about the other: just the last of so many octets is there to read.
    # CRLF at most doubles an octet. A last line without an end is given one, which is not in the W= of Dovecot.
    likely = stored and wire and stored <= wire <= 2 * stored and names.is_timed(file)
    if stored and wire and likely and os.pread(descriptor, 2, stored - 1) == b"\n":
        return Facts(wire, ENDED, 0)
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        return None
    return Facts(*survey(chunks(descriptor, state.st_size)), int(state.st_mtime))


def chunks(descriptor: int, size: int = -1) -> Iterator[bytes]:
    """A file's content from its beginning, as far as `size` if that is known; its position does not move."""
    offset = 0
    while offset != size and (chunk := os.pread(descriptor, CHUNK, offset)):
        offset += len(chunk)
        yield chunk
