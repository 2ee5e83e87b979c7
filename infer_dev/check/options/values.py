"""Whether llama-server reads the values of options as meant."""

import re
from collections.abc import Iterator
from dataclasses import replace

from infer_dev.check.finding import Finding, Level
from infer_dev.check.options.command_line import env_path
from infer_dev.check.options.wording import Told, finding_of, in_terms_of, named, shown
from infer_dev.check.subject import Subject
from infer_dev.check.words import Word
from infer_dev.config.place import Place
from infer_dev.llama_cpp.options.arguments import OFF_WORDS, ON_WORDS, Reading, negative_variable
from infer_dev.llama_cpp.options.catalogue import Catalogue, Option, canonical, spelled
from infer_dev.llama_cpp.options.common import WHOLE_NUMBERS

_PREFIX = "LLAMA_ARG_"
_WHOLE = re.compile(r"\s*[+-]?\d+")
_ANY = re.compile(r"\s*[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf|nan)")
_THOUSANDS = re.compile(r"\s*(\d{1,6})\s*[kK]i?\s*")
_INT_MAX = 2**31 - 1
_AUTO_WORDS = frozenset({"auto", "-1"})
_SAME = {"yes": "on", "y": "on", "enable": "on", "no": "off", "n": "off", "none": "off", "disable": "off"}


def value_findings(subject: Subject, reading: Reading) -> Iterator[Finding]:
    """The values on the command line that are refused, or read as others; options that are on their way out."""
    for given in reading.given:
        word, option = subject.words[given.at], given.option
        if option.is_removed or option.is_deprecated:
            yield _outdated(subject, option, spelled(word.text), word, word.place(subject.file))
        if option.values != 1 or option.is_removed or option.is_deprecated:
            continue
        value_word = subject.words[given.values_at[0]]
        if told := _wrong(option, given.name, value_word.text):
            yield _value_finding(subject, named(word, word.text), told, value_word.place(subject.file))


def variable_findings(subject: Subject, catalogue: Catalogue) -> Iterator[Finding]:
    """The `LLAMA_ARG_*` that the file sets for an instance."""
    env = subject.spec.command.env
    if not any(name.startswith(_PREFIX) for name in env):
        return
    by_variable = {option.env: option for option in catalogue.options if option.env}
    switched_off = {negative_variable(option) for option in catalogue.options if option.env and option.negatives}
    for variable, value in env.items():
        path = env_path(subject.file, subject.spec.name, variable) if variable.startswith(_PREFIX) else None
        if path is None or variable in switched_off:
            continue
        place = subject.file.where(*path)
        option = by_variable.get(variable)
        if option is None:
            if catalogue.is_complete:
                yield _unknown_variable(subject, variable, [*by_variable, *switched_off], place)
        elif option.is_removed or option.is_deprecated:
            yield _outdated(subject, option, variable, None, place)
        elif option.values == 0:
            yield from _switch(subject, option, variable, value, place)
        elif option.values == 1 and (told := _wrong(option, canonical(option, option.names[0]), value)):
            yield _value_finding(subject, variable, told, place)


def _value_finding(subject: Subject, name: str, told: Told, place: Place) -> Finding:
    return finding_of(subject, replace(told, message=f"{name} = {told.message}"), place)


def _outdated(subject: Subject, option: Option, flag: str, word: Word | None, place: Place) -> Finding:
    instead = in_terms_of(word, " or ".join(option.successors))
    hint = f"in its place: {instead}" if instead else "take it out"
    if option.is_removed:
        told = Told(Level.ERROR, "removed-option", f"{flag} has been removed from llama.cpp", hint)
    else:
        message = f"{flag} is deprecated: this llama-server still takes it, a later one may not"
        told = Told(Level.NOTE, "deprecated-option", message, hint)
    return finding_of(subject, told, place)


def _switch(subject: Subject, option: Option, variable: str, value: str, place: Place) -> Iterator[Finding]:
    if value not in ON_WORDS and value not in OFF_WORDS:
        level = Level.ERROR if option.negatives else Level.WARNING  # the others pass over what they do not know
        told = Told(level, "bad-choice", f"{shown(value)} is neither on nor off", 'write "1" or "0"')
        yield _value_finding(subject, variable, told, place)


def _unknown_variable(subject: Subject, variable: str, known: list[str], place: Place) -> Finding:
    from difflib import get_close_matches  # noqa: PLC0415 - seldom needed

    close = get_close_matches(variable, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "take it out"
    message = f"this llama-server does not read {variable}"
    return finding_of(subject, Told(Level.WARNING, "unknown-variable", message, hint), place)


def _wrong(option: Option, name: str, value: str) -> Told | None:
    """What is wrong with a value, as it continues "NAME = "; None if nothing is, or it cannot be told."""
    if option.choices is not None:
        return _wrong_choice(option, option.choices, value)
    if option.is_number:
        return _wrong_number(option, name, value)
    if option.mentioned and value not in option.mentioned:
        known = ", ".join(option.mentioned)
        message = f"{shown(value)} is not among the values that the help of this llama-server names"
        return Told(Level.WARNING, "bad-choice", message, _closest(value, option.mentioned) or f"it names {known}")
    return None


def _wrong_choice(option: Option, choices: tuple[str, ...], value: str) -> Told | None:
    allowed = set(choices)
    if allowed <= {"on", "off", "auto"}:  # `is_truthy` and its like in common/arg.cpp
        allowed |= ON_WORDS | OFF_WORDS | (_AUTO_WORDS if "auto" in allowed else frozenset())
    values = value.split(",") if option.takes_list else [value]
    bad = next((one for one in values if one not in allowed), None)
    if bad is None:
        return None
    # With none in the list, 0.7.0 does not look at the others.
    level = Level.WARNING if option.takes_list and "none" in values else Level.ERROR
    known = ", ".join(choices)
    hint = _closest(bad, choices) or "write one of these"
    return Told(level, "bad-choice", f"{shown(bad)} is none of {known}", hint)


def _closest(value: str, choices: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - seldom needed

    meant = _SAME.get(value.lower(), value.lower())
    by_lower = {choice.lower(): choice for choice in choices}
    close = [meant] if meant in by_lower else get_close_matches(meant, by_lower, n=1)
    return f'did you mean "{by_lower[close[0]]}"?' if close else ""


def _wrong_number(option: Option, name: str, value: str) -> Told | None:
    """llama-server reads a number as `stoi` and `stof` do: as far as it goes, what follows is passed over."""
    if value in option.mentioned:
        return None
    is_whole = name in WHOLE_NUMBERS
    found = (_WHOLE if is_whole else _ANY).match(value)
    if found is None:
        also = "".join(f' or "{word}"' for word in option.mentioned if word.isalpha()) if is_whole else ""
        return Told(Level.ERROR, "not-a-number", f"{shown(value)} is not a number", f"write a number{also}")
    if is_whole and abs(int(found[0])) > _INT_MAX:
        return Told(Level.ERROR, "not-a-number", f"{shown(value)} is too large a number", f"{_INT_MAX} at most")
    rest = value[found.end() :].strip()
    if rest and not _is_round(rest):
        thousands = _THOUSANDS.fullmatch(value)
        hint = f"write {int(thousands[1]) * 1024}" if thousands and is_whole else "write the whole number"
        message = f"{shown(value)} is read as {found[0].strip()}: llama-server passes over {shown(rest)}"
        return Told(Level.WARNING, "not-a-number", message, hint)
    if option.bounds is not None and not option.bounds[0] <= _number(found[0]) <= option.bounds[1]:
        low, high = option.bounds
        message, hint = f"{shown(value)} is not from {low} to {high}", f"write a number from {low} to {high}"
        return Told(Level.WARNING, "out-of-range", message, hint)
    return None


def _number(text: str) -> float:
    return float(int(text, 0)) if "x" in text.lower() else float(text)


def _is_round(rest: str) -> bool:
    """Whether what follows a whole number does not change it, as in 8192.0, which a float in TOML becomes."""
    return re.fullmatch(r"\.0*", rest) is not None
