"""Keeps catalogues, one for each llama-server."""

from dataclasses import asdict
from typing import Any

from infer_dev.cache import Shelf
from infer_dev.llama_cpp.options.catalogue import Catalogue, Option

# Of a script that starts another binary one cannot always tell that the other one has changed.
_KEPT_S = 24 * 3600.0
_SHELF = Shelf("options", most=16, most_bytes=4 << 20, most_age_s=_KEPT_S)


def recall(folder: str, key: str) -> Catalogue | None:
    """The catalogue kept in `folder` under `key`; None without one that can be trusted."""
    try:
        return _from_json(_SHELF.recall(folder, key))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def keep(folder: str, key: str, catalogue: Catalogue) -> None:
    """Keep a catalogue, if `folder` can be made and written."""
    _SHELF.keep(folder, key, _to_json(catalogue))


def _to_json(catalogue: Catalogue) -> dict[str, Any]:  # Any: JSON
    """Of an option only what is not as it is by default: it is read back faster."""
    usual = asdict(Option(names=()))
    rows = [{name: value for name, value in asdict(one).items() if value != usual[name]} for one in catalogue.options]
    return {"version": catalogue.version, "is_complete": catalogue.is_complete, "options": rows}


def _from_json(document: Any) -> Catalogue:
    options = tuple(_option(row) for row in document["options"])
    version, is_complete = document["version"], document["is_complete"]
    if not (isinstance(version, str) and isinstance(is_complete, bool) and all(map(_is_sound, options))):
        raise TypeError("not a catalogue")
    return Catalogue(options, version, is_complete=is_complete)


def _option(row: dict[str, Any]) -> Option:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Option(**values)  # type: ignore[arg-type]  # `_is_sound` looks at them


def _is_sound(option: Option) -> bool:
    """Whether the fields that are used as text are."""
    texts = (*option.names, *option.negatives, *(option.choices or ()), *option.mentioned, *option.successors)
    is_text = all(isinstance(text, str) for text in (*texts, option.metavar, option.env or ""))
    return is_text and bool(option.names) and option.values in (None, 0, 1, 2)
