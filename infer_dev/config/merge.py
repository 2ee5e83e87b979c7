"""How defaults and an instance's own tables become one. Pure."""

from collections.abc import Mapping
from typing import Any

from infer_dev.config.schema import ServerValue


def merge_server(defaults: Mapping[str, ServerValue], own: Mapping[str, ServerValue]) -> dict[str, ServerValue]:
    """llama-server arguments: the defaults with an instance's own laid over them.

    A scalar replaces the default in the default's place; two arrays are joined, the default's items first; new
    keys follow in their order.
    """
    merged = dict(defaults)
    for key, value in own.items():
        default = merged.get(key)
        merged[key] = [*default, *value] if isinstance(default, list) and isinstance(value, list) else value
    return merged


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge: tables merge, all else replaces. Any: the values of a TOML document."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge_tables(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
