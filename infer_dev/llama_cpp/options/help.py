"""Reads the text that `llama-server --help` prints, of any age.

Since September 2024 (common/arg.cpp) it is a table: options in the first column, their description from column 40
or on the lines below, under headings such as `----- common params -----`. What was before is written by hand
(examples/server/server.cpp, then common/common.cpp): indented, with descriptions from column 28 or 34, and with
options that take a value of which it does not tell.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from infer_dev.llama_cpp.options.catalogue import Catalogue, Option, canonical

_HEADING = re.compile(r"-{3,} .* -{3,}")
# The indent is at most 9 blanks (options without a short name, mid 2024); descriptions begin much further right.
_HEAD = re.compile(r"( {0,10})(-{1,2}[A-Za-z]\S*.*)")
_GAP = re.compile(r"(?<=[^\s,]) {2,}|(?<=\}) ")
_NEXT_NAME = re.compile(r"(?:, *|\s+)(?=-{1,2}[A-Za-z])")
_ENV = re.compile(r"\(env: (\w+)\)")
_ALLOWED = re.compile(r"allowed values:\s*((?:[\w.-]+,\s*)*[\w.-]+)")
_BULLET = re.compile(r"^\s*- ([\w+-]+)(?: \([^)]*\))?:", re.MULTILINE)
_QUOTED = re.compile(r"'(\w[\w.+-]*)'")
_DEFAULT = re.compile(r"default: '?([A-Za-z][\w+-]*)")
_SWITCHED = re.compile(r"\(default: (?:(enabled|true)|disabled|false)[,)]")
_FLAG = re.compile(r"--[a-z0-9*][a-z0-9*-]*[a-z0-9]")
_WORD = re.compile(r"[a-z0-9][\w+-]*")
_FEWEST_LISTED = 2
_LIST_LENGTH = 3  # from which on a metavar `a,b,c` is a list of the values there are
_REPEATS = re.compile(r"can be repeated|multiple times")
# They add up though the help says nothing of it (the handlers in common/arg.cpp).
_ADD_UP = frozenset({
    "lora", "lora-scaled", "control-vector", "control-vector-scaled", "override-kv", "override-tensor",
    "spec-draft-override-tensor", "override-tensor-draft", "logit-bias", "reverse-prompt", "dry-sequence-breaker",
    "api-key", "rpc", "spec-type", "tools",
})  # fmt: skip


@dataclass(slots=True)
class _Entry:
    head: str
    lines: list[str]


def parse_help(text: str, version: str = "") -> Catalogue:
    """The options listed in a help text; none where it is something else."""
    entries, is_table = [], False
    entry: _Entry | None = None
    for line in text.splitlines():
        if _HEADING.fullmatch(line.strip()):
            is_table, entry = True, None
        elif found := _HEAD.fullmatch(line):
            head, *description = _GAP.split(found[2], maxsplit=1)
            entry = _Entry(head.strip(), description)
            entries.append(entry)
        elif entry is not None and (not line or line[0].isspace()):
            entry.lines.append(line.strip())
        else:
            entry = None
    options = tuple(_option(entry, is_table=is_table) for entry in entries)
    return Catalogue(options, version, is_complete=is_table)


def _option(entry: _Entry, *, is_table: bool) -> Option:
    names: list[str] = []
    metavar = ""
    for part in _NEXT_NAME.split(entry.head):
        name, _, after = part.partition(" ")
        names += _spellings(name.rstrip(","))
        metavar = after.strip(" ,") or metavar
    text, flat = "\n".join(entry.lines), " ".join(entry.lines)
    negatives = () if metavar else tuple(_negatives(names))
    option = Option(
        names=tuple(names), negatives=negatives, values=_count(metavar, is_table=is_table), metavar=metavar
    )
    is_removed = "the argument has been removed" in flat
    is_deprecated = "DEPRECATED" in flat and not is_removed
    env, switched = _ENV.search(text), _SWITCHED.search(flat)
    choices, takes_list = _choices(metavar, text)
    return replace(
        option,
        choices=choices,
        takes_list=takes_list,
        mentioned=_mentioned(option, text, flat) if choices is None else (),
        env=env[1] if env else None,
        is_on=bool(switched[1]) if switched and option.values == 0 else None,
        is_removed=is_removed,
        is_deprecated=is_deprecated,
        successors=tuple(dict.fromkeys(_FLAG.findall(text))) if is_removed or is_deprecated else (),
        repeats=bool(_REPEATS.search(flat)) or canonical(option, names[0]) in _ADD_UP,
    )


def _spellings(name: str) -> tuple[str, ...]:
    """One, or two where it is written as `--embedding(s)` (2024)."""
    return (name[:-3], f"{name[:-3]}s") if name.endswith("(s)") else (name,)


def _count(metavar: str, *, is_table: bool) -> int | None:
    if not metavar:
        return 0 if is_table else None
    return 2 if re.fullmatch(r"[A-Z]+ [A-Z]+", metavar) else 1


def _negatives(names: list[str]) -> Iterator[str]:
    """Those that negate the others: the help lists them last, a short one such as -nkvo among them."""
    is_long = [name.startswith("--") for name in names]
    first = next((at for at, name in enumerate(names) if is_long[at] and not name.startswith("--no-")), len(names))
    if not any(name.startswith("--no-") for name in names[first:]):
        return
    for name in names[first + 1 :]:
        if name.startswith(("--no-", "-n")):
            yield name


def _choices(metavar: str, text: str) -> tuple[tuple[str, ...] | None, bool]:
    """All values there are, where the help lists them; and whether several may be given at once."""
    inside = metavar[1:-1]
    match metavar[:1], metavar[-1:]:
        case "{", "}":
            return tuple(inside.split(",")), False
        case ("[", "]") | ("<", ">") if "|" in inside and re.fullmatch(r"[a-z][\w|+-]*", inside):
            return tuple(inside.split("|")), False
    if found := _ALLOWED.search(text):
        return tuple(word.strip() for word in found[1].split(",")), False
    words = metavar.split(",")
    if len(words) >= _LIST_LENGTH and all(_WORD.fullmatch(word) for word in words):
        return tuple(words), True
    return None, False


def _mentioned(option: Option, text: str, flat: str) -> tuple[str, ...]:
    """The values that a description lists; what else than a number an option takes that takes one."""
    listed, quoted = _BULLET.findall(text), _QUOTED.findall(flat)
    if option.is_number:  # its default may be told in prose: "same as --threads"
        return tuple(dict.fromkeys((*listed, *quoted)))
    if option.values != 1 or len(listed) < _FEWEST_LISTED:
        return ()
    return tuple(dict.fromkeys((*listed, *quoted, *_DEFAULT.findall(flat))))
