"""Checks a parsed document against the contract and merges the defaults in. Collects every mistake."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from infer_dev.config.loopback import is_loopback
from infer_dev.config.merge import merge_server, merge_tables
from infer_dev.config.schema import (
    API_HOST_PATTERN,
    BEARER_PATTERN,
    NAME_PATTERN,
    RESERVED_NAMES,
    ControlTable,
    MasterTable,
    ServerValue,
)


@dataclass(frozen=True, slots=True)
class Instance:
    """One `[instance.NAME]`, its defaults merged in."""

    name: str
    control: ControlTable
    server: Mapping[str, ServerValue]


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: the dotted key it is at, what is wrong, what to do."""

    keys: tuple[str, ...]
    message: str
    hint: str = ""


def check_shape(document: Mapping[str, object]) -> Iterator[Finding]:
    """What stands at the top level and directly under `[instance]`."""
    for key in document:
        if key not in ("master", "instance"):
            yield _unknown((key,), key, ("master", "instance"))
    for key in ("master", "instance"):
        if not isinstance(document.get(key, {}), dict):
            yield Finding((key,), f"expected a table, got {_describe(document[key])}")
    tables = document.get("instance", {})
    if isinstance(tables, dict):
        for name, table in tables.items():
            yield from _check_instance_shape(name, table)


def _check_instance_shape(name: str, table: object) -> Iterator[Finding]:
    keys = ("instance", name)
    if name not in RESERVED_NAMES and not re.fullmatch(NAME_PATTERN, name):
        yield Finding(
            keys,
            f"{name!r} cannot be an instance's name",
            "a name starts with a letter or digit; letters, digits, '.', '_' and '-' may follow",
        )
    elif not isinstance(table, dict):
        hint = "write [instance.NAME.server] or [instance.NAME.control]"
        yield Finding(keys, f"expected a table, got {_describe(table)}", hint)
    elif name not in RESERVED_NAMES:
        for key, value in table.items():
            if key not in RESERVED_NAMES:
                yield _unknown((*keys, key), key, RESERVED_NAMES)
            elif not isinstance(value, dict):
                yield Finding((*keys, key), f"expected a table, got {_describe(value)}")


def check_text(value: object, keys: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Strings and keys that no process could be given: all of them end up in an argument, a variable or a path."""
    match value:
        case str():
            if reason := _unpassable(value):
                yield Finding(keys, f"{reason} cannot be passed to a process")
        case list():
            for item in value:
                yield from check_text(item, keys)
        case dict():
            for key, item in value.items():
                if reason := _unpassable(key):
                    yield Finding(keys, f"{reason} cannot stand in a key")
                else:
                    yield from check_text(item, (*keys, key))


def _unpassable(text: str) -> str:
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return ""


def check_master(table: object) -> tuple[MasterTable | None, list[Finding]]:
    """`[master]`, or what is wrong with it."""
    master, findings = check_table(MasterTable, ("master",), table)
    if not isinstance(master, MasterTable):
        return None, findings
    if master.api_token is not None and master.api_token_file is not None:
        findings.append(Finding(("master", "api_token_file"), "api_token is set, too", "leave one of the two out"))
    has_token = master.api_token is not None or master.api_token_file is not None
    if master.api_host is not None and not is_loopback(master.api_host) and master.api_port != 0 and not has_token:
        what = f"the API would be open to everybody who can reach {master.api_host}: it needs a token"
        findings.append(Finding(("master", "api_host"), what, "set master.api_token_file, or leave api_host out"))
    return master, findings


def check_instances(tables: Mapping[str, Any]) -> tuple[list[Instance], list[Finding]]:
    """The instances with their defaults merged in, and what is wrong with any of the tables.

    Any: the values of a TOML document, here and below.
    """
    control_defaults, server_defaults = _table(tables, "control"), _table(tables, "server")
    _, findings = check_table(ControlTable, ("instance", "control"), control_defaults)
    findings += check_server(("instance", "server"), server_defaults)
    instances = []
    for name, table in tables.items():
        if name in RESERVED_NAMES:
            continue
        if not isinstance(table, dict):
            continue  # told by check_shape, as the tables of the wrong type below
        own_control, own_server = _table(table, "control"), _table(table, "server")
        keys = ("instance", name)
        _, wrong = check_table(ControlTable, (*keys, "control"), own_control)
        wrong += check_server((*keys, "server"), own_server)
        findings += wrong
        if not findings:
            control = ControlTable.model_validate(merge_tables(control_defaults, own_control))
            if control.backoff_s > control.backoff_max_s:
                findings.append(Finding((*keys, "control", "backoff_s"), "backoff_s is larger than backoff_max_s"))
            instances.append(Instance(name, control, merge_server(server_defaults, own_server)))
    return instances, findings


def _table(tables: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = tables.get(key, {})
    return table if isinstance(table, dict) else {}


def check_table(
    model: type[BaseModel], keys: tuple[str, ...], table: object
) -> tuple[BaseModel | None, list[Finding]]:
    try:
        return model.model_validate(table), []
    except ValidationError as err:
        findings = []
        for problem in err.errors():
            place = (*keys, *(str(part) for part in problem["loc"]))
            if problem["type"] == "extra_forbidden":
                findings.append(_unknown(place, place[-1], tuple(model.model_fields)))
            else:
                findings.append(Finding(place, _explain(problem)))
        return None, findings


_SHOWN_CHARS = 40
_LARGEST = 10**1000  # CPython refuses to print more than some 4300 digits
_EXPECTED = {
    "bool_type": "expected true or false",
    "string_type": "expected a string in quotes",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "string_too_short": "expected a string that is not empty",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "tuple_type": "expected an array",
}

# What was given is not told: it may be a secret.
_PATTERNS = {
    API_HOST_PATTERN: "expected an address, such as 127.0.0.1",
    BEARER_PATTERN: "expected letters, digits and signs of ASCII, at least one, without blanks",
}


def _explain(problem: Mapping[str, Any]) -> str:  # Any: pydantic's error details
    """Tells pydantic's finding in the words of a TOML file."""
    kind, got = problem["type"], _describe(problem["input"])
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS[problem["ctx"]["pattern"]]
    expected = _EXPECTED.get(kind) or str(problem["msg"]).replace("Input should be", "expected")
    return f"{expected}, got {got}"


def check_server(keys: tuple[str, ...], table: object) -> list[Finding]:
    """A `server` table: any key, but only values that can become command-line arguments."""
    if not isinstance(table, dict):
        return [Finding(keys, f"expected a table, got {_describe(table)}")]
    findings = []
    for key, value in table.items():
        place = (*keys, key)
        if key == "extra_args":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                findings.append(
                    Finding(
                        place,
                        f"expected an array of strings, got {_describe(value)}",
                        'write extra_args = ["-ngl", "99"]',
                    )
                )
            continue
        items = value if isinstance(value, list) else [value]
        allowed = (str, int, float)
        for item in items:
            if not isinstance(item, allowed) or (isinstance(value, list) and isinstance(item, bool)):
                findings.append(
                    Finding(
                        place,
                        f"expected a string, a number, true or false, or an array of strings and numbers, "
                        f"got {_describe(item)}{' in an array' if isinstance(value, list) else ''}",
                        "it becomes one argument of llama-server"
                        if not isinstance(item, dict)
                        else "llama-server's arguments stand directly under server, without tables of their own",
                    )
                )
                break
        if any(isinstance(item, int) and abs(item) >= _LARGEST for item in items):
            findings.append(Finding(place, "a number of so many digits cannot be written out"))
        if not key or key.startswith("-"):
            findings.append(Finding(place, f"{key!r} is not a name of an argument", "leave the dashes out"))
    return findings


def _unknown(place: tuple[str, ...], key: str, known: Sequence[str]) -> Finding:
    from difflib import get_close_matches  # noqa: PLC0415 - costs start-up time, needed for errors only

    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return Finding(place, "unknown key", hint)


def _describe(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'the string "{value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "…"}"'
        case int() | float():
            return f"the number {value}"
        case list():
            odd = next((item for item in value if not isinstance(item, str)), None)
            within = "an array" if isinstance(odd, list) else _describe(odd)
            return "an array" if odd is None else f"an array with {within}"
        case dict():
            return "a table"
    return f"a {type(value).__name__}"
