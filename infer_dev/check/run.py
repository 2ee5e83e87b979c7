"""Runs all checks over a file."""

from collections.abc import Mapping, Sequence

from infer_dev.check.look import looks_at
from infer_dev.check.verdict import Verdict
from infer_dev.config.load import ConfigFile
from infer_dev.plan.model import Endpoint, Plan
