"""A plan survives the way through JSON whole."""

import json

import pytest

from infer_dev.config.load import load
from infer_dev.plan.build import build_plan
from infer_dev.plan.serial import plan_from_json, plan_to_json
from tests.conftest import ROOT

EXAMPLES = sorted((ROOT / "model-configs").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_plan_comes_back_equal(path) -> None:
    plan = build_plan(load(str(path)), "/opt/bin/llama-server", {"LD_LIBRARY_PATH": "/l"})
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


@pytest.mark.parametrize("document", [{}, {"specs": [{}]}, {"specs": 3}, {"specs": [], "other": 1}])
def test_document_that_is_no_plan_is_refused(document) -> None:
    with pytest.raises(ValueError, match="not a plan of this version"):
        plan_from_json(document)
