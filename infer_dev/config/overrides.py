"""`AUTO_INFER_LLAMA_CPP_OVERRIDES`: a JSON object laid over the file."""

import json
from typing import Any

from infer_dev.errors import ConfigError
from infer_dev.settings import OVERRIDES_VAR


def parse_overrides(text: str | None) -> dict[str, Any]:  # Any: the values of a JSON document
    """The overrides as a nested dict; {} where the variable is unset or blank.

    Raises:
        ConfigError: the text is not JSON, not an object, or holds null, which TOML has no counterpart for.
    """
    if text is None or not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ConfigError(
            f"cannot read {OVERRIDES_VAR}: not valid JSON: {err}",
            hint='it must be one object, such as {"instance": {"glm": {"server": {"port": 8080}}}}',
        ) from err
    if not isinstance(value, dict):
        raise ConfigError(
            f"cannot read {OVERRIDES_VAR}: expected a JSON object, got {type(value).__name__}",
            hint='write {"instance": {"NAME": {"server": {…}}}}',
        )
    if (where := _null_in(value)) is not None:
        raise ConfigError(
            f"cannot read {OVERRIDES_VAR}: {'.'.join(where)}: null is not a TOML value",
            hint="give the value to use; a flag is switched off by false",
        )
    return value


def _null_in(value: object) -> list[str] | None:
    """The path of the first null in a JSON value, or None."""
    match value:
        case None:
            return []
        case dict():
            children = [(str(key), item) for key, item in value.items()]
        case list():
            children = [(str(index), item) for index, item in enumerate(value)]
        case _:
            return None
    for key, item in children:
        if (below := _null_in(item)) is not None:
            return [key, *below]
    return None
