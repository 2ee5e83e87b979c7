"""What changes from one set of specs to the next: which start, stop, restart, stay. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from infer_dev.plan.argv import redacted
from infer_dev.plan.model import Spec

SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
HIDDEN = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Names by what becomes of them, each in the new plan's order (`gone` in the old one's).

    Attributes:
        new: not known before.
        gone: no longer in the plan.
        changed: needs another process.
        updated: same process; only how it is kept alive or listed differs.
        unchanged: equal in everything.
    """

    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def diff(old: Mapping[str, Spec], new: Mapping[str, Spec]) -> Changes:
    """Compare two sets of specs by name."""
    both = [name for name in new if name in old]
    changed = tuple(name for name in both if old[name].command != new[name].command)
    return Changes(
        new=tuple(name for name in new if name not in old),
        gone=tuple(name for name in old if name not in new),
        changed=changed,
        updated=tuple(name for name in both if name not in changed and old[name] != new[name]),
        unchanged=tuple(name for name in both if old[name] == new[name]),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is another in the new plan; "" where it was or will be absent. Holds no secrets."""

    what: str
    old: str
    new: str


def differences(old: Spec, new: Spec) -> tuple[Difference, ...]:
    """What differs between two specs of an instance, in the terms of the file."""
    return tuple(_differences(old, new))


def _differences(old: Spec, new: Spec) -> Iterator[Difference]:
    before, after = old.command, new.command
    if before.argv[:1] != after.argv[:1]:
        yield Difference("llama-server", "".join(before.argv[:1]), "".join(after.argv[:1]))
    yield from _argv(redacted(before.argv[1:]), redacted(after.argv[1:]), changed=before.argv[1:] != after.argv[1:])
    for name in sorted({*before.env, *after.env}):
        if before.env.get(name) != after.env.get(name):
            values = [_shown(name, command.env.get(name, "")) for command in (before, after)]
            yield Difference(name, *values)
    if before.cwd != after.cwd:
        yield Difference("cwd", before.cwd, after.cwd)
    if before.log_file != after.log_file:
        yield Difference("log_file", before.log_file, after.log_file)
    for field in fields(old.policy):
        was, will = getattr(old.policy, field.name), getattr(new.policy, field.name)
        if was != will:
            yield Difference(field.name, _text(was), _text(will))
    for name in ("enabled", "autostart", "background", "group", "start_after"):
        if getattr(old, name) != getattr(new, name):
            yield Difference(name, _text(getattr(old, name)), _text(getattr(new, name)))


def _argv(old: Sequence[str], new: Sequence[str], *, changed: bool) -> Iterator[Difference]:
    before, after = _by_flag(old), _by_flag(new)
    told = False
    for flag in dict.fromkeys([*before, *after]):
        if before.get(flag) != after.get(flag):
            told = True
            yield Difference(flag, before.get(flag, ""), after.get(flag, ""))
    if changed and not told:  # the same arguments in another order, or another secret
        yield Difference("arguments", "", "")


def _by_flag(argv: Sequence[str]) -> dict[str, str]:
    """Each flag with all its values in one text; a bare one with "on"."""
    found: dict[str, list[str]] = {}
    flag = ""
    for arg in argv:
        if arg.startswith("-") and not arg.lstrip("-").replace(".", "", 1).isdigit():
            flag = arg
            found.setdefault(flag, [])
        else:
            found.setdefault(flag, []).append(arg)
    return {flag: " ".join(values) or "on" for flag, values in found.items()}


def _shown(name: str, value: str) -> str:
    return HIDDEN if value and any(word in name.upper() for word in SECRET_WORDS) else value


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(map(str, value))
        case float():
            return f"{value:g}"
    return str(value)
