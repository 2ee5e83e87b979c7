"""Whether a llama-server takes the command line it would get, by the list of its own options."""

import re
from collections.abc import Iterator

from infer_dev.check.finding import Finding, Level
from infer_dev.check.options.effects import effect_findings
from infer_dev.check.options.values import value_findings, variable_findings
from infer_dev.check.options.wording import Told, finding_of, in_terms_of, key_of, removal_hint, shown, suggestion
from infer_dev.check.subject import Subject
from infer_dev.check.words import Role, Word
from infer_dev.llama_cpp.options.arguments import OFF_WORDS, Fault, Flaw, Reading
from infer_dev.llama_cpp.options.catalogue import Catalogue, Option, canonical, spelled
from infer_dev.llama_cpp.options.removed import successor
from infer_dev.plan.argv import REDACTED, SECRET_FLAGS

_NO_WORDS = OFF_WORDS | {"no", "none"}
_TWO = 2
_SEPARATOR = re.compile(r"[=\s]")


def flag_findings(subject: Subject, catalogue: Catalogue | None, reading: Reading) -> Iterator[Finding]:
    """What is wrong with the options of one instance.

    Args:
        subject: the instance (`command_line.subject_of`).
        catalogue: what its binary takes; None: nothing can be told.
        reading: its command line as read (`command_line.subject_of`).
    """
    if catalogue is None:
        return
    told: set[tuple[str, str]] = set()
    for fault in reading.faults:
        word = subject.words[fault.at]
        what = _fault(subject, catalogue, fault, word)
        if word.role is not Role.VERBATIM:  # an array repeats its key: told once
            if (what.code, word.key) in told:
                continue
            told.add((what.code, word.key))
        yield finding_of(subject, what, word.place(subject.file))
    yield from value_findings(subject, reading)
    yield from variable_findings(subject, catalogue)
    yield from effect_findings(subject, catalogue, reading)


def _fault(subject: Subject, catalogue: Catalogue, fault: Fault, word: Word) -> Told:
    match fault.flaw, fault.option:
        case Flaw.UNKNOWN, _:
            return _unknown(word, catalogue)
        case Flaw.MISSING, Option() as option:
            return _missing(subject, fault, option, word, catalogue)
        case Flaw.EXCESS, Option() as option:
            return _excess(option, subject.words[fault.at - 1], word)
    before = subject.words[fault.at - _TWO].text if fault.at >= _TWO else ""
    what = REDACTED if spelled(before) in SECRET_FLAGS else shown(word.text)
    return Told(
        Level.ERROR,
        "stray-word",
        f"{what} follows no option that takes it",
        "take it out, or put its option in front of it, as an item of its own",
    )


def _unknown(word: Word, catalogue: Catalogue) -> Told:
    flag = spelled(word.text)
    if told := _one_item(word, catalogue):
        return told
    if instead := successor(flag, catalogue):
        hint = in_terms_of(word, removal_hint(instead))
        return Told(Level.ERROR, "removed-option", f"this llama-server has no {flag}", hint)
    head = _SEPARATOR.split(flag, maxsplit=1)[0]  # what follows may be a secret
    message = f"this llama-server has no {shown(head, quote='')}"
    return Told(Level.ERROR, "unknown-option", message, suggestion(word, head, catalogue))


def _one_item(word: Word, catalogue: Catalogue) -> Told | None:
    """An option and its value in one item, which a shell would have taken apart, or other programs would take."""
    if (found := _SEPARATOR.search(word.text)) is None:
        return None
    flag, value = word.text[: found.start()], word.text[found.end() :].strip()
    option = catalogue.find(flag)
    if option is None:
        return None
    value = REDACTED if any(name in SECRET_FLAGS for name in option.names) else shown(value, quote="")
    message = f'"{flag}{found[0]}{value}" is one word, and llama-server has no option of that name'
    hint = f'write two items: "{flag}", "{value}"' if option.values != 0 else f'write one item: "{flag}"'
    return Told(Level.ERROR, "option-and-value-in-one", message, hint)


def _missing(subject: Subject, fault: Fault, option: Option, word: Word, catalogue: Catalogue) -> Told:
    flag = spelled(word.text)
    taken = None if fault.taken_at is None else catalogue.find(subject.words[fault.taken_at].text)
    # llama-server takes the next option for the value: only a text without bounds lets that pass, and only if what
    # was taken does not leave a value of its own behind.
    passes = taken is not None and taken.values == 0 and option.choices is None and not option.is_number
    level = Level.WARNING if passes and option.values == 1 else Level.ERROR
    if option.values == _TWO:
        message = f"{flag} takes two values"
        hint = f'a key gives one: write them in extra_args: "{flag}", "…", "…"'
    elif word.role is Role.VERBATIM:
        message = f"{flag} needs a value"
        hint = "put the value behind it, as an item of its own"
    else:
        message = f"{flag} needs a value, and true gives none"
        hint = f"write {_with_value(word.key, option)}"
    if taken is not None:
        message += f"; llama-server would take {subject.words[fault.taken_at or 0].text} for it"
    return Told(level, "value-missing", message, hint)


def _with_value(key: str, option: Option) -> str:
    if option.choices:
        best = "on" if "on" in option.choices else option.choices[0]
        return f'{key} = "{best}"' + (f" (or {_others(option, best)})" if len(option.choices) > 1 else "")
    return f"{key} = {option.metavar}, a number" if option.is_number else f'{key} = "…"'


def _others(option: Option, best: str) -> str:
    return ", ".join(f'"{choice}"' for choice in option.choices or () if choice != best)


def _excess(option: Option, flag_word: Word, word: Word) -> Told:
    flag = spelled(flag_word.text)
    key = flag_word.key
    hint = f'take {shown(word.text)} out: "{flag}" alone is enough'
    if word.role is not Role.VERBATIM:
        hint = f"write {key} = true"
        if word.text.lower() in _NO_WORDS:
            off = next(iter(option.negatives), "") and canonical(option, option.negatives[0])
            hint = f"write {key_of(off)} = true" if off and flag not in option.negatives else f"leave {key} out"
    return Told(Level.ERROR, "value-not-taken", f"{flag} takes no value, but is given {shown(word.text)}", hint)
