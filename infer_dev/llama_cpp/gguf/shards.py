"""A model of several files: which belong to it, and what is wrong with the set.

Source: llama.cpp's `llama_split_path` and `llama_model_loader`: the first file tells how many there are, the others
are found by name, and each has to say that it is the one expected.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infer_dev.llama_cpp.gguf.error import Fault, GgufError
from infer_dev.llama_cpp.gguf.header import Header

NUMBER_KEY = "split.no"
COUNT_KEY = "split.count"
TENSORS_KEY = "split.tensors.count"
SAME_EVERYWHERE = ("general.architecture", "general.name")
MOST_SHARDS = 4096  # no known set has 300
MOST_NAMED = 8
_NAME = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class ProblemKind(StrEnum):
    """What is wrong with a model's files."""

    SHARD_MISSING = "shard-missing"
    SHARD_UNREADABLE = "shard-unreadable"
    SHARD_OF_OTHER_SET = "shard-of-other-set"
    SHARDS_SWAPPED = "shards-swapped"
    SHARD_RENAMED = "shard-renamed"
    NOT_FIRST_SHARD = "not-first-shard"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    """The tensor table is not as llama.cpp wants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong.

    Attributes:
        kind: which.
        path: the file it is about.
        message: what is wrong, as it continues the path after a colon.
        hint: the next step.
        is_refused: whether llama.cpp certainly refuses it.
    """

    kind: ProblemKind
    path: str
    message: str
    hint: str
    is_refused: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of a model.

    Attributes:
        path: where it is, or should be.
        header: what it says; None if it cannot be read.
        reason: why it cannot be read, or "".
        is_missing: whether there is no such file.
    """

    path: str
    header: Header | None
    reason: str = ""
    is_missing: bool = False


def shard_path(prefix: str, number: int, count: int) -> str:
    """The name llama.cpp looks for.

    Args:
        prefix: path without the ending.
        number: which, from 1.
        count: how many there are.
    """
    return f"{prefix}-{number:05}-of-{count:05}.gguf"


def split_name(path: str) -> tuple[str, int, int] | None:
    """Prefix, number from 1 and count as a file's name tells them; None if it is not named like a shard."""
    found = _NAME.fullmatch(path)
    return (found["prefix"], int(found["number"]), int(found["count"])) if found else None


def shards_of(head: Header, read: Callable[[str], Header]) -> tuple[Shard, ...]:
    """All files of the model that `head` belongs to, in order; `head` alone if it is not split or not named so."""
    count = head.integer(COUNT_KEY) or 0
    named = split_name(head.path)
    if named is None or named[2] != count or not 1 <= named[1] <= count <= MOST_SHARDS or count == 1:
        return (Shard(path=head.path, header=head),)
    paths = [shard_path(named[0], number, count) for number in range(1, count + 1)]
    return tuple(Shard(path=path, header=head) if path == head.path else _read(path, read) for path in paths)


def problems_of(head: Header, shards: Sequence[Shard]) -> Iterator[Problem]:
    """What is wrong with the set, and with each file of it."""
    if (head.integer(COUNT_KEY) or 0) > 1:
        yield from _problems_of_head(head, shards)
        yield from _problems_of_set(head, shards)
    for shard in shards:
        if shard.header is not None:
            yield from _problems_of_file(shard.header)


def _read(path: str, read: Callable[[str], Header]) -> Shard:
    try:
        return Shard(path=path, header=read(path))
    except GgufError as err:
        return Shard(path=path, header=None, reason=err.reason, is_missing=err.fault == Fault.MISSING)


def _problems_of_head(head: Header, shards: Sequence[Shard]) -> Iterator[Problem]:
    count, number = head.integer(COUNT_KEY) or 0, (head.integer(NUMBER_KEY) or 0) + 1
    wanted = shard_path("", number, count)
    if not head.path.endswith(wanted):
        named = split_name(head.path)
        yield Problem(
            kind=ProblemKind.SHARDS_SWAPPED if named and named[2] == count else ProblemKind.SHARD_RENAMED,
            path=head.path,
            message=f"it is shard {number} of {count}, and not named like that",
            hint=f"llama.cpp finds shards by name: the name has to end with {wanted}",
        )
    elif number != 1:
        first = shards[0].path
        yield Problem(
            kind=ProblemKind.NOT_FIRST_SHARD,
            path=head.path,
            message=f"it is shard {number} of {count}, and llama.cpp wants the first",
            hint=f"name {os.path.basename(first)}",
        )


def _problems_of_set(head: Header, shards: Sequence[Shard]) -> Iterator[Problem]:
    count = head.integer(COUNT_KEY) or 0
    if count > MOST_SHARDS:
        yield _of_other_set(head, f"it claims to be one of {count} shards")
        return
    missing = [os.path.basename(shard.path) for shard in shards if shard.is_missing]
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        yield Problem(
            kind=ProblemKind.SHARD_MISSING,
            path=head.path,
            message=f"{len(missing)} of {count} shards are missing: {', '.join(missing[:MOST_NAMED])}{more}",
            hint="fetch them into the same folder",
        )
    for number, shard in enumerate(shards, 1):
        if shard.header is None:
            if not shard.is_missing:
                yield Problem(
                    kind=ProblemKind.SHARD_UNREADABLE,
                    path=shard.path,
                    message=shard.reason,
                    hint="fetch this shard again",
                )
        elif shard.header is not head:
            yield from _problems_of_member(head, shard.header, number)
    if len(shards) == count and all(shard.header for shard in shards):
        yield from _problems_of_tensors(head, shards)


def _problems_of_member(head: Header, one: Header, number: int) -> Iterator[Problem]:
    count = head.integer(COUNT_KEY)
    if one.integer(COUNT_KEY) != count:
        told = one.integer(COUNT_KEY)
        what = f"it is one of {told} shards, and not of {count}" if told else "it is no shard, but a file by itself"
        yield _of_other_set(one, what, is_refused=False)  # not checked by llama.cpp; the tensors' count is
        return
    for key in SAME_EVERYWHERE:
        if one.text(key) and head.text(key) and one.text(key) != head.text(key):
            what = f"its {key} is {one.text(key)!r}, that of {_base(head)} {head.text(key)!r}"
            yield _of_other_set(one, what, is_refused=False)
            return
    told = (one.integer(NUMBER_KEY) or 0) + 1
    if told != number:
        yield Problem(
            kind=ProblemKind.SHARDS_SWAPPED,
            path=one.path,
            message=f"it is shard {told}, and named as shard {number}",
            hint=f"its name has to end with {shard_path('', told, count or 0)}",
        )


def _problems_of_tensors(head: Header, shards: Sequence[Shard]) -> Iterator[Problem]:
    seen = Counter(tensor.name for shard in shards if shard.header for tensor in shard.header.tensors)
    doubled = [name for name, times in seen.items() if times > 1]
    wanted = head.integer(TENSORS_KEY)
    if doubled:
        what = f"{len(doubled)} tensors are in several shards ({doubled[0]} is one)"
    elif wanted is not None and wanted != seen.total():
        what = f"the shards have {seen.total()} tensors together, and should have {wanted}"
    else:
        return
    yield _of_other_set(head, what)


def _problems_of_file(header: Header) -> Iterator[Problem]:
    if missing := header.missing_bytes:
        yield Problem(
            kind=ProblemKind.TRUNCATED,
            path=header.path,
            message=f"{missing} bytes are missing at its end: it has {header.size_bytes} of {header.needed_bytes}",
            hint="the download or copy was not finished: fetch it again",
        )
    for defect in header.defects[:MOST_NAMED]:
        yield Problem(
            kind=ProblemKind.REFUSED, path=header.path, message=defect, hint="the file is damaged: fetch it again"
        )


def _of_other_set(one: Header, what: str, *, is_refused: bool = True) -> Problem:
    hint = "shards of another model or quantisation are mixed in: fetch the whole set again"
    kind = ProblemKind.SHARD_OF_OTHER_SET
    return Problem(kind=kind, path=one.path, message=what, hint=hint, is_refused=is_refused)


def _base(header: Header) -> str:
    return os.path.basename(header.path)
