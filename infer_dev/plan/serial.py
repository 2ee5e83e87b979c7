"""Plans as JSON and back, to hand them from one process to another. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from math import isfinite
from typing import Any

from infer_dev.plan.model import Api, Command, Endpoint, Plan, Policy, Source, Spec, Topic


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
        api = api_from_json(document.get("api", {}))
        return Plan(**{**document, "specs": specs, "places": places, "api": api})
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise ValueError(f"not a plan of this version: {err}") from err


def source_to_json(source: Source) -> dict[str, Any]:  # Any: a JSON document
    """`source` as nested dicts; without `api` where the file says nothing of it, as older versions know it."""
    document = asdict(source)
    if source.api == Api():
        del document["api"]
    return document


def source_from_json(document: Mapping[str, Any]) -> Source:  # Any: a JSON document
    """The source that `source_to_json` made `document` of.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    source = Source(**{**document, "api": api_from_json(document.get("api", {}))})
    _refuse_other_types(source)
    return source


def api_from_json(document: Mapping[str, Any]) -> Api:  # Any: a JSON document
    """What such a document says of the API; raises as `source_from_json`."""
    api = Api(**document)
    _refuse_other_types(api)
    return api


def spec_to_json(spec: Spec) -> dict[str, Any]:  # Any: a JSON document
    """`spec` as `dataclasses.asdict` has it, at a tenth of its time: the daemon saves each one before its start."""
    document = _fields_of(spec)
    for name in ("command", "endpoint", "policy"):
        document[name] = _fields_of(document[name])
    return document


def _fields_of(one: Spec | Command | Endpoint | Policy) -> dict[str, Any]:  # Any: as above
    return {name: getattr(one, name) for name in one.__slots__}


def spec_from_json(document: Mapping[str, Any]) -> Spec:  # Any: a JSON document
    """One spec of such a document.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none; whoever went by it would fail later.
    """
    command = document["command"]
    spec = Spec(
        **{
            **document,
            "command": Command(**{**command, "argv": tuple(command["argv"])}),
            "endpoint": Endpoint(**document["endpoint"]),
            "policy": Policy(**document["policy"]),
            "start_after": tuple(document["start_after"]),
        }
    )
    for one in (spec, spec.command, spec.endpoint, spec.policy):
        _refuse_other_types(one)
    if not spec.name or "/" in spec.name:  # it becomes the name of a file
        raise ValueError(f"name: cannot be {spec.name!r}")
    return spec


def _refuse_other_types(one: Api | Source | Spec | Command | Endpoint | Policy) -> None:
    for field in fields(one):
        check = _CHECKS.get(field.type)
        if check is not None and not check(getattr(one, field.name)):
            raise TypeError(f"{field.name}: cannot be {getattr(one, field.name)!r}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


def _is_environment(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))


_CHECKS: dict[object, Callable[[object], bool]] = {
    str: _is_text,
    str | None: lambda value: value is None or _is_text(value),
    bool: lambda value: isinstance(value, bool),
    int: _is_count,
    int | None: lambda value: value is None or _is_count(value),
    float: _is_number,
    tuple[str, ...]: _are_texts,
    Mapping[str, str]: _is_environment,
}
