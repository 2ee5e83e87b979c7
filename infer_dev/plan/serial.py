"""Plans as JSON and back, to hand them from one process to another. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from infer_dev.plan.model import Command, Endpoint, Plan, Policy, Spec, Topic


def plan_to_json(plan: Plan) -> dict[str, Any]:  # Any: a JSON document
    """`plan` as nested dicts and lists."""
    return asdict(plan)


def plan_from_json(document: Mapping[str, Any]) -> Plan:  # Any: a JSON document
    """The plan that `plan_to_json` made `document` from.

    Raises:
        ValueError: it is not one, or one of another version of infer-dev.
    """
    try:
        specs = tuple(spec_from_json(spec) for spec in document["specs"])
        places = {
            name: {Topic(topic): place for topic, place in of.items()} for name, of in document["places"].items()
        }
        return Plan(**{**document, "specs": specs, "places": places})
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise ValueError(f"not a plan of this version: {err}") from err


def spec_to_json(spec: Spec) -> dict[str, Any]:  # Any: a JSON document
    """`spec` as `dataclasses.asdict` has it, at a tenth of its time: the daemon saves each one before its start."""
    document = _fields_of(spec)
    for name in ("command", "endpoint", "policy"):
        document[name] = _fields_of(document[name])
    return document


def _fields_of(one: Spec | Command | Endpoint | Policy) -> dict[str, Any]:  # Any: as above
    return {name: getattr(one, name) for name in one.__slots__}


def spec_from_json(document: Mapping[str, Any]) -> Spec:  # Any: a JSON document
    """One spec of such a document."""
    command = document["command"]
    return Spec(
        **{
            **document,
            "command": Command(**{**command, "argv": tuple(command["argv"])}),
            "endpoint": Endpoint(**document["endpoint"]),
            "policy": Policy(**document["policy"]),
            "start_after": tuple(document["start_after"]),
        }
    )
