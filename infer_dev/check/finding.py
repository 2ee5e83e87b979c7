"""What a check says: how bad, of which instance, where it stands, what is wrong and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from infer_dev.config.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SHOWN_NAMES = 3


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """It cannot work."""
    WARNING = "warning"
    """It may work, but hardly as meant."""
    NOTE = "note"
    """Worth knowing; also what cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found.

    Attributes:
        level: how bad it is.
        code: which kind, in kebab-case; programs may go by it.
        instance: whose it is; "" if it is about the file or this machine.
        place: where the value stands that has to change.
        message: what is wrong, as it continues the place after a colon; no full stop.
        hint: the next step, or "".
    """

    level: Level
    code: str
    instance: str
    place: Place
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """As `check --json` has it; `file`, `line` and `key` instead of the place."""
        document = asdict(self)
        place = document.pop("place")
        return {**document, **place}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Finding:  # Any: as above
        """The finding that `to_json` made `document` of."""
        place = Place(document["file"], document["line"], document["key"])
        named = {name: document[name] for name in ("code", "instance", "message", "hint")}
        return cls(level=Level(document["level"]), place=place, **named)


def told_once(findings: Iterable[Finding]) -> list[tuple[Finding, tuple[str, ...]]]:
    """The findings for people: what comes from a default is told once, with the names of all it is about."""
    names: dict[tuple[object, ...], list[str]] = {}
    first: dict[tuple[object, ...], Finding] = {}
    for one in findings:
        key = (one.place, one.level, one.message, one.hint)
        first.setdefault(key, one)
        names.setdefault(key, []).append(one.instance)
    return [(one, tuple(dict.fromkeys(names[key]))) for key, one in first.items()]


def of_several(names: Sequence[str]) -> str:
    """Whom a finding is about, where it is about more than one."""
    if len(names) <= 1:
        return ""
    shown = ", ".join(names[:SHOWN_NAMES])
    return f" [{shown}{f' and {len(names) - SHOWN_NAMES} more' if len(names) > SHOWN_NAMES else ''}]"
