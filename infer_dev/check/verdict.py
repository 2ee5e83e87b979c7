"""What the findings mean for a start: which instances cannot work, and how that is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infer_dev.check.finding import Finding, Level, of_several, told_once
from infer_dev.errors import ConfigError
from infer_dev.llama_cpp.cause import Cause

_CAUSES = {
    "model-shard-missing": Cause.SHARD_MISSING,
    "binary-does-not-run": Cause.BINARY_UNUSABLE,
    "gpu-memory-never": Cause.OUT_OF_MEMORY_GPU,
    "gpu-missing": Cause.CUDA_DRIVER,
    "port-taken": Cause.PORT_IN_USE,
}
"""What an instance fails with of which a finding of this code is told; a code that is a cause stands for itself."""

NOTHING_STARTED = "nothing was started or changed; --no-check starts without looking"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an instance is not started: as a failure of it would be told."""

    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings about what is to be started."""

    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.level is Level.ERROR)

    @property
    def warnings(self) -> list[str]:
        """The warnings, a line each; what comes from a default once."""
        return [told(*one) for one in told_once(one for one in self.findings if one.level is Level.WARNING)]

    def refuse(self, path: str) -> None:
        """Raise if anything cannot work.

        Raises:
            ConfigError: names every error with its place and next step.
        """
        errors = told_once(self.errors)
        if len(errors) == 1:
            one, names = errors[0]
            hint = f"{one.hint}; {NOTHING_STARTED}" if one.hint else NOTHING_STARTED
            raise ConfigError(f"cannot start {one.place}: {one.message}{of_several(names)}", hint=hint)
        if errors:
            lines = [f"  {told(one, names)}" for one, names in errors]
            raise ConfigError(
                "\n".join([f"cannot start {path}: {len(self.errors)} errors:", *lines]), hint=NOTHING_STARTED
            )

    def refusals(self, names: Sequence[str]) -> dict[str, Refusal]:
        """Which of `names` cannot work, and why: each by its first error. One about the file is about all."""
        found: dict[str, Refusal] = {}
        for one in self.errors:
            for name in [one.instance] if one.instance else names:
                if name in names:
                    found.setdefault(name, Refusal(cause_of(one), told(one)))
        return found

    def to_json(self) -> list[dict[str, Any]]:  # Any: JSON
        """The findings as `check --json` has them."""
        return [one.to_json() for one in self.findings]


def verdict_from_json(documents: Sequence[Mapping[str, Any]]) -> Verdict:  # Any: JSON
    """The verdict that `to_json` made `documents` of."""
    return Verdict(tuple(Finding.from_json(one) for one in documents))


def told(finding: Finding, names: Sequence[str] = ()) -> str:
    """A finding as one line; with `names`, if it is about several."""
    hint = f" ({finding.hint})" if finding.hint else ""
    return f"{finding.place}: {finding.message}{of_several(names)}{hint}"


def cause_of(finding: Finding) -> Cause:
    """The cause an instance would fail with."""
    code = finding.code
    if code in tuple(Cause):
        return Cause(code)
    return _CAUSES.get(code) or (Cause.MODEL_UNREADABLE if code.startswith("model-") else Cause.BAD_ARGUMENT)
