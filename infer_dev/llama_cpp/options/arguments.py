"""Reads a command line as llama-server does (`common_params_parse_ex` in common/arg.cpp); goes on after faults."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infer_dev.llama_cpp.options.catalogue import Catalogue, Option, canonical, opposite
from infer_dev.llama_cpp.options.common import COMMON

ON_WORDS = frozenset({"on", "enabled", "true", "1"})
OFF_WORDS = frozenset({"off", "disabled", "false", "0"})
_NUMBER = re.compile(r"-[.\d]")


class Flaw(StrEnum):
    """What is wrong with a word of a command line."""

    UNKNOWN = "unknown"
    """An option that is not in the catalogue."""
    MISSING = "missing"
    """An option whose value, or second value, does not follow it."""
    EXCESS = "excess"
    """A value after an option that takes none."""
    STRAY = "stray"
    """A value that follows no option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One option as given.

    Attributes:
        option: which.
        name: its canonical name.
        at: index of its word.
        values_at: indices of its values.
    """

    option: Option
    name: str
    at: int
    values_at: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong.

    Attributes:
        flaw: what.
        at: index of the word.
        option: the one it is about, where it is known.
        taken_at: if a value is missing: the index of the option that llama-server takes for it, or None.
    """

    flaw: Flaw
    at: int
    option: Option | None = None
    taken_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A command line as read: the options in their order, and what is wrong."""

    given: tuple[Given, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an option is set to.

    Attributes:
        option: which.
        value: the text of its value, two joined by a blank; "" for one without.
        at: index of the word that says so, or None.
        variable: the variable that says so, or "".
    """

    option: Option
    value: str
    at: int | None = None
    variable: str = ""


def read_arguments(words: Sequence[str], bound: Sequence[bool], catalogue: Catalogue | None) -> Reading:
    """Read the words after the binary.

    Args:
        words: the command line.
        bound: for each word whether it was written as the value of the one before it.
        catalogue: what the server takes; None: the most common options are known.
    """
    given: list[Given] = []
    faults: list[Fault] = []
    for step in _walk(words, bound, catalogue or COMMON):
        if isinstance(step, Given):
            given.append(step)
        else:
            faults.append(step)
    return Reading(given=tuple(given), faults=tuple(faults))


def canonical_options(
    reading: Reading, words: Sequence[str], env: Mapping[str, str], catalogue: Catalogue | None
) -> dict[str, Setting]:
    """What is set in the end, by canonical name; the command line wins over the environment, the last over others."""
    found: dict[str, Setting] = {}
    for one in (catalogue or COMMON).options:
        _put(found, _from_environment(one, env))
    for given in reading.given:
        value = " ".join(words[at] for at in given.values_at)
        at = given.values_at[0] if given.values_at else given.at
        _put(found, (given.name, Setting(option=given.option, value=value, at=at)))
    return found


def find_option(word: str, catalogue: Catalogue) -> Option | None:
    """The option a word stands for; where the list is known to leave some out, also one of the most common."""
    return catalogue.find(word) or (None if catalogue.is_complete else COMMON.find(word))


def _walk(words: Sequence[str], bound: Sequence[bool], catalogue: Catalogue) -> Iterator[Given | Fault]:
    at = 0
    while at < len(words):
        option = find_option(words[at], catalogue)
        start, at = at, at + 1
        if bound[start] or (option is None and not _looks_like_option(words[start])):
            yield Fault(flaw=Flaw.STRAY, at=start)
        elif option is None:
            yield Fault(flaw=Flaw.UNKNOWN, at=start)
            is_whole = "=" not in words[start] and " " not in words[start]  # its value is not in the same word
            at += is_whole and _is_value(words, bound, at, catalogue)
        elif option.values == 0 and _is_value(words, bound, at, catalogue):
            yield _given(option, words, start)
            yield Fault(flaw=Flaw.EXCESS, at=at, option=option)
            at += 1
        else:
            end = _end_of_values(option, words, bound, at, catalogue)
            if option.values is not None and end - at < option.values:
                yield Fault(flaw=Flaw.MISSING, at=start, option=option, taken_at=end if end < len(words) else None)
            else:
                yield _given(option, words, start, tuple(range(at, end)))
            at = end


def _given(option: Option, words: Sequence[str], at: int, values_at: tuple[int, ...] = ()) -> Given:
    return Given(option=option, name=canonical(option, words[at]), at=at, values_at=values_at)


def _end_of_values(option: Option, words: Sequence[str], bound: Sequence[bool], at: int, catalogue: Catalogue) -> int:
    """Where its values end. llama-server takes even an option for one, which is never meant."""
    if option.values is None:
        return at + _is_value(words, bound, at, catalogue)
    end = at
    while (
        end < len(words) and end - at < option.values and (bound[end] or find_option(words[end], catalogue) is None)
    ):
        end += 1
    return end


def _is_value(words: Sequence[str], bound: Sequence[bool], at: int, catalogue: Catalogue) -> bool:
    if at >= len(words):
        return False
    return bound[at] or (find_option(words[at], catalogue) is None and not _looks_like_option(words[at]))


def _looks_like_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and _NUMBER.match(word) is None


def _put(found: dict[str, Setting], entry: tuple[str, Setting] | None) -> None:
    if entry is None:
        return
    name, setting = entry
    if setting.option.values == 0:
        rivals = {canonical(setting.option, other) for other in setting.option.names} | {opposite(name)}
        for rival in rivals:
            if rival in found and found[rival].option.values == 0:  # --no-host is not against --host
                del found[rival]
    found[name] = setting


def _from_environment(option: Option, env: Mapping[str, str]) -> tuple[str, Setting] | None:
    """As `common_arg::get_value_from_env` has it: of a pair, the mere presence of LLAMA_ARG_NO_X switches X off."""
    if option.env is None:
        return None
    if option.negatives and (variable := negative_variable(option)) in env:
        return canonical(option, option.negatives[0]), Setting(option=option, value="", variable=variable)
    value = env.get(option.env)
    if value is None:
        return None
    setting = Setting(option=option, value=value if option.values else "", variable=option.env)
    if option.values != 0 or value in ON_WORDS:
        return canonical(option, option.names[0]), setting
    if option.negatives and value in OFF_WORDS:
        return canonical(option, option.negatives[0]), setting
    return None


def negative_variable(option: Option) -> str:
    """The variable that switches off an option that has one for on."""
    return (option.env or "").replace("LLAMA_ARG_", "LLAMA_ARG_NO_")
