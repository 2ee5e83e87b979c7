"""`infer-dev models`."""

from __future__ import annotations

import json
import os
import shutil
import sys

from infer_dev.cli.text import columns, fitted, is_terminal, size
from infer_dev.errors import EXIT_OK, UsageError
from infer_dev.host.printable import printable_line
from infer_dev.llama_cpp.gguf.library import Library
from infer_dev.llama_cpp.gguf.search import gguf_files, listed
from infer_dev.settings import CONFIG_VAR, MODELS_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from infer_dev.llama_cpp.gguf.model import Model
    from infer_dev.llama_cpp.gguf.search import Listed

    Fits = Callable[[Model], str]

HEADERS = ["NAME", "KIND", "ARCHITECTURE", "PARAMETERS", "QUANTISATION", "CONTEXT", "SIZE", "COMPLETE", "FILE"]
FITS_HEADER = "FITS"
GAP = 2
CUT_TO = ((8, 30), (7, 24), (0, 20), (8, 12), (7, 8))
"""What is cut where the terminal is too narrow, in this order, and how far; by the index in HEADERS."""


def listing(*folders: str, as_json: bool = False) -> int:
    """As `models`, with a column that tells where each fits now."""
    from infer_dev.check.memory.fit import fits_on  # noqa: PLC0415 - for this command only
    from infer_dev.check.memory.room import gpu_rooms  # noqa: PLC0415 - as above
    from infer_dev.host.gpu.inventory import look  # noqa: PLC0415 - as above
    from infer_dev.host.memory.left import read_memory  # noqa: PLC0415 - as above

    return models(*folders, as_json=as_json, fits=fits_on(gpu_rooms(look()), read_memory()))


def models(*folders: str, as_json: bool = False, fits: Fits | None = None) -> int:
    """List the models below `folders`, by default those that a container has mounted and the configured file names.

    Args:
        folders: where to look.
        as_json: print all that is known.
        fits: where a complete model fits, for a column of its own; None: no such column.
    """
    roots = list(folders) or default_folders(os.environ)
    _refuse_missing(roots)
    library = Library()
    found = gguf_files(roots)
    entries = listed(found.paths, library.model)
    if as_json:
        documents = [to_json(entry, fits) for entry in entries]
        document = {"folders": roots, "is_all": found.is_all, "models": documents}
        print(json.dumps(document, ensure_ascii=False, indent=2))
        return EXIT_OK
    if not found.is_all:
        print("infer-dev: not everything was looked at: there are too many files or folders", file=sys.stderr)
    if not entries:
        print(f"no GGUF files below {', '.join(roots)}", file=sys.stderr)
        return EXIT_OK
    rows = [[*HEADERS, *([FITS_HEADER] if fits else [])], *(row(entry, fits) for entry in entries)]
    print(columns(_cut(rows) if is_terminal(sys.stdout) else rows))
    return EXIT_OK


def default_folders(environ: Mapping[str, str]) -> list[str]:
    """The folders mounted for a container, and those of the models that the configured file names."""
    found = [MODELS_ROOT] if os.path.isdir(MODELS_ROOT) else []
    if path := environ.get(CONFIG_VAR):
        found += _folders_of(path, environ)
    if not found:
        raise UsageError(
            f"cannot list models: there is no {MODELS_ROOT}, and {CONFIG_VAR} names no file",
            hint="name a folder: infer-dev models DIR",
        )
    return list(dict.fromkeys(found))


def row(entry: Listed, fits: Fits | None = None) -> list[str]:
    """A model as cells under HEADERS, and one more for `fits`."""
    model = entry.model
    if model is None:
        cells = [os.path.basename(entry.path), "-", "-", "-", "-", "-", "-", f"no: {entry.reason}", entry.path]
        return [*map(printable_line, cells), *(["-"] if fits else [])]
    problem = next(iter(model.problems), None)
    cells = [
        model.name or os.path.basename(entry.path),
        str(model.kind),
        model.architecture or "-",
        parameters(model.parameters),
        model.quantisation or "-",
        str(model.context_tokens or "-"),
        size(model.size_bytes),
        f"no: {problem.message}" if problem else "yes",
        entry.path,
    ]
    return [*map(printable_line, cells), *([fits(model) if not problem else "-"] if fits else [])]


def to_json(entry: Listed, fits: Fits | None = None) -> dict[str, Any]:
    """A model as `--json` has it; Any: JSON. Of one that cannot be read all but path and reason is null."""
    model = entry.model
    return {
        "path": entry.path,
        "name": model and model.name,
        "kind": model and model.kind,
        "architecture": model and model.architecture,
        "parameters": model and model.parameters,
        "quantisation": model and model.quantisation,
        "context_tokens": model and model.context_tokens,
        "vocabulary_tokens": model and model.vocabulary_tokens,
        "has_chat_template": model and model.has_chat_template,
        "size_bytes": model and model.size_bytes,
        "is_complete": model is not None and not model.problems,
        "reason": entry.reason,
        "hint": entry.hint,
        "shards": [{"path": one.path, "is_there": one.header is not None} for one in model.shards] if model else [],
        "problems": [
            {"kind": one.kind, "path": one.path, "message": one.message, "hint": one.hint} for one in model.problems
        ]
        if model
        else [],
        **({"fits": fits(model) if model and not model.problems else None} if fits else {}),
    }


def parameters(count: int) -> str:
    """A count for people, in powers of 1000: 7.2B."""
    value = float(count)
    for unit in ("", "K", "M", "B"):
        if value < 1000:  # noqa: PLR2004 - the step from unit to unit
            return f"{value:.1f}{unit}" if unit else str(count)
        value /= 1000
    return f"{value:.1f}T"


def _folders_of(path: str, environ: Mapping[str, str]) -> list[str]:
    """Where the models of a file are that are there."""
    from infer_dev.check.resolve import resolve_for_show, source_of_caller  # noqa: PLC0415 - pydantic
    from infer_dev.plan.argv import MODEL_FLAGS, flag_value  # noqa: PLC0415 - with it

    _, plan, _ = resolve_for_show(source_of_caller(path, environ), environ)
    files = [
        os.path.join(spec.command.cwd, model)
        for spec in plan.specs
        if (model := flag_value(spec.command.argv, MODEL_FLAGS))
    ]
    return [folder for file in files if os.path.isdir(folder := os.path.dirname(os.path.normpath(file)))]


def _refuse_missing(roots: Sequence[str]) -> None:
    for root in roots:
        if not os.path.exists(root):
            raise UsageError(f"cannot list models: there is no {root}", hint="name a folder or a .gguf file")


def _cut(rows: list[list[str]]) -> list[list[str]]:
    """The rows made narrower where the terminal is; of a path the end tells most."""
    needed = [max(len(cells[index]) for cells in rows) for index in range(len(rows[0]))]
    available = shutil.get_terminal_size().columns - GAP * (len(needed) - 1)
    widths = fitted(needed, available, CUT_TO)
    file = HEADERS.index("FILE")
    return [
        [
            cell if len(cell) <= width else f"…{cell[1 - width :]}" if index == file else f"{cell[: width - 1]}…"
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        for cells in rows
    ]
