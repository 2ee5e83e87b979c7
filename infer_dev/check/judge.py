"""Judges what is to be started; imports the checks only if that has not been found without fault before."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infer_dev.check.clean import is_known, key_of
from infer_dev.check.verdict import Verdict
from infer_dev.plan.model import Endpoint, Plan
from infer_dev.settings import cache_dir

if TYPE_CHECKING:
    from infer_dev.config.load import ConfigFile


def judge(
    file: "ConfigFile",
    plan: Plan,
    names: Sequence[str],
    running: Mapping[Endpoint, int | None],
    *,
    apart: bool = False,
) -> Verdict:
    """What is found about the instances `names` of a plan (check/run.py: `judge`); `apart`: by another process."""
    key = key_of(plan, names)
    if is_known(cache_dir(os.environ), key):
        return Verdict()
    if apart:
        from infer_dev.check.apart import judge_apart  # noqa: PLC0415 - seldom needed

        return judge_apart(file, plan, names, running, key=key)
    from infer_dev.check.run import judge as look_at_all  # noqa: PLC0415 - imports all checks: 0.1 s

    return look_at_all(file, plan, names, running, key=key)
