"""Reads and checks a file for a daemon that is only starting; the answer is JSON, to be handed over to it."""

from collections.abc import Callable, Mapping
from typing import Any

from infer_dev.check.finding import Finding, Level
from infer_dev.check.judge import judge
from infer_dev.check.resolve import resolve_file, source_of_caller
from infer_dev.check.verdict import Verdict
from infer_dev.config.place import Place
from infer_dev.plan.model import Plan
from infer_dev.plan.serial import plan_to_json


def read_ahead(
    path: str, environ: Mapping[str, str], *, check: bool, look: Callable[..., Verdict] = judge
) -> dict[str, Any]:  # Any: JSON
    """`plan` and `findings` of a file.

    Args:
        path: of the file.
        environ: what the caller has.
        check: look at what starts by itself.
        look: does that.

    Raises:
        ConfigError, UnavailableError: it cannot be used.
    """
    file, plan = resolve_file(source_of_caller(path, environ), environ)
    verdict = Verdict()
    if check and plan.enabled:
        try:
            verdict = look(file, plan, [spec.name for spec in plan.specs if spec.starts_itself], {})
        except Exception as err:  # noqa: BLE001 - owner: `up`; a check that goes wrong must not keep instances from running
            verdict = Verdict((_gone_wrong(plan, err),))
    return {"plan": plan_to_json(plan), "findings": verdict.to_json()}


def _gone_wrong(plan: Plan, err: Exception) -> Finding:
    return Finding(
        level=Level.WARNING,
        code="check-failed",
        instance="",
        place=Place(plan.source, None, ""),
        message=f"the check went wrong, and it goes on without: {type(err).__name__}: {err}",
        hint="report it with this file",
    )
