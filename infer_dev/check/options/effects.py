"""Options that llama-server takes, but that come to nothing."""

from collections.abc import Iterator

from infer_dev.check.finding import Finding, Level
from infer_dev.check.options.wording import Told, finding_of, in_toml, key_of, removal_hint, shown
from infer_dev.check.subject import Subject
from infer_dev.check.words import Role
from infer_dev.llama_cpp.options.arguments import Given, Reading
from infer_dev.llama_cpp.options.catalogue import Catalogue, canonical, opposite, spelled
from infer_dev.llama_cpp.options.removed import successor
from infer_dev.plan.argv import REDACTED, SECRET_FLAGS


def effect_findings(subject: Subject, catalogue: Catalogue, reading: Reading) -> Iterator[Finding]:
    """Options given more than once, against each other, or switched off by what switches nothing off."""
    yield from _overruled(subject, reading)
    yield from _without_effect(subject, catalogue)


def _overruled(subject: Subject, reading: Reading) -> Iterator[Finding]:
    """All but the last of those that are about the same thing and say something else."""
    last: dict[tuple[str, bool], Given] = {_subject_matter(given): given for given in reading.given}
    for given in reading.given:
        winner = last[_subject_matter(given)]
        if given is winner or given.option.repeats or _says(subject, given) == _says(subject, winner):
            continue
        word = subject.words[given.at]
        message = f"{_written(subject, given)} has no effect: {_written(subject, winner)} comes later and wins"
        place = subject.words[given.values_at[0] if given.values_at else given.at].place(subject.file)
        hint = f"keep one of them{_where(word.role, winner, subject)}"
        yield finding_of(subject, Told(Level.WARNING, "given-twice", message, hint), place)


def _subject_matter(given: Given) -> tuple[str, bool]:
    """What it is about, and whether it takes a value: --no-host has nothing to do with --host."""
    if given.option.values != 0:
        return given.name, True
    positive = canonical(given.option, given.option.names[0]) if given.option.negatives else given.name
    return positive.removeprefix("no-"), False


def _says(subject: Subject, given: Given) -> object:
    return given.name if given.option.values == 0 else tuple(subject.words[at].text for at in given.values_at)


def _written(subject: Subject, given: Given) -> str:
    flag = spelled(subject.words[given.at].text)
    is_secret = any(name in SECRET_FLAGS for name in given.option.names)
    values = [REDACTED if is_secret else shown(subject.words[at].text, quote="") for at in given.values_at]
    return " ".join([flag, *values])


def _where(role: Role, winner: Given, subject: Subject) -> str:
    """Says that keys come after `extra_args`, where that is why."""
    is_key = subject.words[winner.at].role is not Role.VERBATIM
    return "; extra_args come first, keys after them" if role is Role.VERBATIM and is_key else ""


def _without_effect(subject: Subject, catalogue: Catalogue) -> Iterator[Finding]:
    """Keys that are false: by the contract they add nothing, so that what is on by default stays on."""
    name = subject.spec.name
    own, default = subject.file.value("instance", name, "server"), subject.file.value("instance", "server")
    own, default = own if isinstance(own, dict) else {}, default if isinstance(default, dict) else {}
    for key, value in {**default, **own}.items():
        if value is False and (told := _false(key, catalogue)):
            level, hint = told
            path = ("instance", name, "server", key) if key in own else ("instance", "server", key)
            message = f"{key} = false adds nothing to the command line, so llama-server does as it does by default"
            yield finding_of(subject, Told(level, "false-has-no-effect", message, hint), subject.file.where(*path))


def _false(key: str, catalogue: Catalogue) -> tuple[Level, str] | None:
    flag = "--" + key.replace("_", "-")
    off = "--" + opposite(flag[2:])
    option, negation = catalogue.find(flag), catalogue.find(off)
    if flag.startswith("--no-") or (option is not None and option.is_removed):
        return None
    if option is not None and option.values == 1:
        return (Level.WARNING, f'write {key} = "off"') if option.choices and "off" in option.choices else None
    if option is not None and (option.is_on is False or not (option.negatives or negation)):
        return None
    if option is not None and option.negatives:
        off = "--" + canonical(option, option.negatives[0])
    elif negation is None:
        instead = successor(off, catalogue)
        return (Level.WARNING, f"to switch it off, {in_toml(removal_hint(instead))}") if instead else None
    hint = f"to switch it off, write {key_of(off)} = true"
    # A server that has an option only for off has it on.
    is_on = option is None or option.is_on is True
    return (Level.WARNING if is_on else Level.NOTE), hint
