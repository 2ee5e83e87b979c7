"""Reads and checks a file for a daemon that is only starting; the answer is JSON, to be handed over to it."""

from collections.abc import Mapping
from typing import Any

from infer_dev.check.judge import judge
from infer_dev.check.resolve import resolve_file, source_of_caller
from infer_dev.check.verdict import Verdict
from infer_dev.plan.serial import plan_to_json


def read_ahead(path: str, environ: Mapping[str, str], *, check: bool) -> dict[str, Any]:  # Any: JSON
    """`plan` and `findings` of a file.

    Raises:
        ConfigError, UnavailableError: it cannot be used.
    """
    file, plan = resolve_file(source_of_caller(path, environ), environ)
    verdict = Verdict()
    if check and plan.enabled:
        verdict = judge(file, plan, [spec.name for spec in plan.specs if spec.starts_itself], {})
    return {"plan": plan_to_json(plan), "findings": verdict.to_json()}
