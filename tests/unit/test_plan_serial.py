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


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("name",), 7),
        (("name",), "../../x"),
        (("name",), "\0"),
        (("gpu_ids",), 0.5),
        (("source",), ["x"]),
        (("enabled",), 1),
        (("command", "argv"), [1.5]),
        (("command", "env"), {"A": 1}),
        (("command", "log_file"), None),
        (("endpoint", "port"), "80"),
        (("policy", "stop_timeout_s"), "15"),
        (("policy", "drain_timeout_s"), float("nan")),
        (("policy", "max_restarts"), True),
    ],
)
def test_value_of_another_type_is_refused(place, value) -> None:
    """The daemon would fail over it later, and so would each daemon that finds it saved."""
    document = json.loads(json.dumps(plan_to_json(build_plan(load(str(EXAMPLES[0])), "/opt/bin/llama-server", {}))))
    *path, last = place
    at = document["specs"][0]
    for key in path:
        at = at[key]
    at[last] = value
    with pytest.raises(ValueError, match=f"not a plan of this version: {last}: cannot be"):
        plan_from_json(document)
