"""Runs all checks over a file."""

from collections.abc import Mapping, Sequence

from infer_dev.check.verdict import Verdict
from infer_dev.config.load import ConfigFile
from infer_dev.plan.model import Endpoint, Plan


def judge(_: ConfigFile, __: Plan, ___: Sequence[str], ____: Mapping[Endpoint, int | None]) -> Verdict:
    """What is found about the instances that are to be started."""
    return Verdict()
