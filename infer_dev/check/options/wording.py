"""How findings about options are worded: what they name, and which option was probably meant."""

import re
from dataclasses import dataclass
from functools import lru_cache

from infer_dev.check.finding import Finding, Level
from infer_dev.check.subject import Subject
from infer_dev.check.words import Role, Word
from infer_dev.config.place import Place
from infer_dev.llama_cpp.options.catalogue import Catalogue

_SHOWN_CHARACTERS = 48
_CUTOFF = 0.75


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of an option; the fields of a `Finding` that do not depend on where it stands."""

    level: Level
    code: str
    message: str
    hint: str


def finding_of(subject: Subject, told: Told, place: Place) -> Finding:
    """The finding; no error where the options were read by a list that is not complete."""
    level = told.level if subject.is_sure or told.level is not Level.ERROR else Level.WARNING
    name = subject.spec.name
    return Finding(level=level, code=told.code, instance=name, place=place, message=told.message, hint=told.hint)


def shown(value: str, quote: str = '"') -> str:
    """A value as a message repeats it: of a long one its end, where a path differs from others."""
    text = value if len(value) <= _SHOWN_CHARACTERS else f"…{value[-_SHOWN_CHARACTERS:]}"
    return f"{quote}{''.join(char if char.isprintable() else '?' for char in text)}{quote}"


def key_of(flag: str) -> str:
    """The `server` key that stands for a long flag."""
    return flag.lstrip("-").replace("-", "_")


def named(word: Word, flag: str) -> str:
    """`flag` as the one writes it who wrote `word`: as a key, or as it is."""
    return flag if word.role is Role.VERBATIM or not flag.startswith("--") else key_of(flag)


def in_toml(text: str) -> str:
    """`text` with its flags as keys, a value behind one as the key's."""
    with_value = re.sub(
        r"--([a-z][a-z-]*) (?!and |or |\()(\w+)", lambda found: f'{key_of(found[1])} = "{found[2]}"', text
    )
    return re.sub(r"--([a-z][a-z-]*)", lambda found: key_of(found[1]), with_value)


def in_terms_of(word: Word | None, text: str) -> str:
    """`text` as the one would write it who wrote `word`: keys instead of flags."""
    return text if word is None or word.role is Role.VERBATIM else in_toml(text)


def removal_hint(instead: str) -> str:
    """The next step for an option that is gone, from `removed.successor`."""
    return f"write {instead}" if instead.startswith("--") else f"take it out: {instead}"


def suggestion(word: Word, flag: str, catalogue: Catalogue) -> str:
    """The next step for an option that is not there; `word` is how it was written."""
    plain = flag.lstrip("-")
    positive = catalogue.find("--" + plain.removeprefix("no-"))
    if plain.startswith("no-") and positive is not None and positive.values == 0:
        return f"{named(word, '--' + plain[3:])} is off unless it is given: leave both out"
    meant = _meant(plain.lower(), tuple(catalogue.by_name))
    if not meant:
        return "take it out; `llama-server --help` lists what this one has"
    if word.role is not Role.VERBATIM and (option := catalogue.find(meant)) is not None:
        meant = next((name for name in option.names if name.startswith("--")), meant) if meant[1] != "-" else meant
    return f"did you mean {named(word, meant)}?"


@lru_cache(maxsize=256)
def _meant(plain: str, names: tuple[str, ...]) -> str:
    """The name most like `plain`; "" if none is. Of a default it is asked once an instance, hence the cache."""
    from difflib import get_close_matches  # noqa: PLC0415 - seldom needed

    by_plain = {name.lstrip("-").lower(): name for name in reversed(names)}
    if plain in by_plain:
        return by_plain[plain]
    parts = sorted(plain.split("-"))
    if same := [name for key, name in by_plain.items() if sorted(key.split("-")) == parts]:
        return same[0]
    long = [key for key, name in by_plain.items() if name.startswith("--")]
    close = get_close_matches(plain, long, n=1, cutoff=_CUTOFF)
    return by_plain[close[0]] if close else ""
