"""All that a check says of a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infer_dev.check.finding import Finding, Level
from infer_dev.config.place import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infer_dev.config.load import MistakesError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found in a file.

    Attributes:
        path: the file.
        binary: the llama-server it was held against; "" if there is none.
        version: of the binary, as it says itself; "" if it does not.
        findings: in the file's order, each instance's together; those about no instance first.
        memory: what each instance needs and where it goes, as JSON; None where nothing can be told. Any: JSON.
        rows: the same as rows of a table, the headers first.
    """

    path: str
    binary: str = ""
    version: str = ""
    findings: tuple[Finding, ...] = ()
    memory: Mapping[str, Any] | None = None
    rows: Sequence[Sequence[str]] = field(default=())

    def count(self, level: Level) -> int:
        return Counter(one.level for one in self.findings)[level]

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """As `check --json` prints it."""
        return {
            "file": self.path,
            "binary": self.binary or None,
            "version": self.version or None,
            "errors": self.count(Level.ERROR),
            "warnings": self.count(Level.WARNING),
            "findings": [one.to_json() for one in self.findings],
            "memory": self.memory,
        }


def report_of_mistakes(path: str, error: MistakesError) -> Report:
    """The report of a file that is not of the contract: nothing else can be told of it."""
    findings = [
        Finding(
            level=Level.ERROR,
            code="config",
            instance=_instance_of(one.keys),
            place=one.place,
            message=one.message,
            hint=one.hint,
        )
        for one in error.mistakes
    ]
    if not findings:
        whole = Place(path, None, "")
        findings = [
            Finding(
                level=Level.ERROR, code="config", instance="", place=whole, message=error.message, hint=error.hint
            )
        ]
    return Report(path=path, findings=tuple(findings))


def _instance_of(keys: Sequence[str]) -> str:
    return keys[1] if len(keys) > 1 and keys[0] == "instance" and keys[1] not in ("server", "control") else ""
