"""The choice of a configuration, or of a model, from a list before anything runs."""

from __future__ import annotations

import os
import sys
import tomllib
from typing import TYPE_CHECKING

from infer_dev.cli.text import is_terminal, size
from infer_dev.dashboard.picker import Choice
from infer_dev.errors import UsageError
from infer_dev.host.printable import printable_line
from infer_dev.settings import CONFIG_VAR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADERS = ("NAME", "WHAT", "SIZE", "INSTANCES", "MODEL")
EXAMPLES = "model-configs"
MOST_COMMENTS = 5  # lines at the top among which the one that tells what the file is for is looked for


def can_choose() -> bool:
    """Whether a person is there who could."""
    return all(is_terminal(stream) for stream in (sys.stdin, sys.stdout, sys.stderr))


def default_folder(environ: Mapping[str, str]) -> str:
    """The folder of the configured file, else the examples if they are here, else this one."""
    if path := environ.get(CONFIG_VAR):
        return path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    return EXAMPLES if os.path.isdir(EXAMPLES) else "."


def chosen(folder: str) -> str | None:
    """The file that a person chooses in a folder; for a model one is written. None: nothing.

    Raises:
        UsageError: there is nothing to choose from, or nobody who could.
        SystemExit: a signal has ended it.
    """
    if not os.path.isdir(folder):
        raise UsageError(
            f"cannot choose from {folder}: it is no folder", hint="name a folder of TOML files or models"
        )
    choices = [*configurations(folder), *models(folder)]
    if not choices:
        raise UsageError(
            f"cannot choose from {folder}: no TOML file with instances and no GGUF model is in it",
            hint="name another folder",
        )
    if not can_choose():
        raise UsageError("cannot choose: this is no terminal", hint="name a file: infer-dev up FILE")
    from infer_dev.dashboard.chooser import Chooser  # noqa: PLC0415 - textual, for this only

    chooser = Chooser(f"what to start from {os.path.abspath(folder)}", HEADERS, choices, does="starts")
    path = chooser.run()
    if chooser.return_code:  # a signal has ended it: nobody has said anything
        raise SystemExit(chooser.return_code)
    if path is None or path.endswith(".toml"):
        return path
    return written_for(path, folder)


def configurations(folder: str) -> Iterator[Choice]:
    """The TOML files of a folder that describe instances."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not name.endswith(".toml") or not os.path.isfile(path):
            continue
        try:
            with open(path, "rb") as file:
                data = file.read()
            text = data.decode()
            table = tomllib.loads(text).get("instance")
        except (OSError, ValueError) as err:
            yield Choice(id=path, cells=(name, "file", "-", "-", "-"), about=printable_line(f"cannot be read: {err}"))
            continue
        if isinstance(table, dict):
            yield _configuration(path, name, text, table)


def _configuration(path: str, name: str, text: str, table: Mapping[str, object]) -> Choice:
    shared = _models_of({"": table})
    instances = {key: one for key, one in table.items() if key not in ("control", "server") and isinstance(one, dict)}
    named = ", ".join(dict.fromkeys([*_models_of(instances), *shared]))
    cells = (name, "file", "-", ", ".join(instances) or "-", named or "-")
    shown = tuple(map(printable_line, cells))
    return Choice(id=path, cells=shown, about=printable_line(_purpose(text)), search=" ".join(shown))


def _models_of(tables: Mapping[str, object]) -> list[str]:
    found = []
    for one in tables.values():
        server = one.get("server") if isinstance(one, dict) else None
        model = server.get("model") if isinstance(server, dict) else None
        if isinstance(model, str):
            found.append(os.path.basename(model))
    return found


def _purpose(text: str) -> str:
    """The first comment that is a sentence."""
    for line in text.splitlines()[:MOST_COMMENTS]:
        if line.startswith("# "):
            return line[2:].strip()
    return ""


def models(folder: str) -> Iterator[Choice]:
    """The models below a folder for which a file can be written."""
    from infer_dev.llama_cpp.gguf.library import Library  # noqa: PLC0415 - only where somebody chooses
    from infer_dev.llama_cpp.gguf.search import gguf_files, listed  # noqa: PLC0415 - as above

    for entry in listed(gguf_files([folder]).paths, Library().model):
        model = entry.model
        about = entry.reason
        if model is not None:
            about = model.problems[0].message if model.problems else "a file for it is written beside the others"
        name = model.name if model is not None and model.name else os.path.basename(entry.path)
        cells = (name, "model", size(model.size_bytes) if model else "-", "-", os.path.relpath(entry.path, folder))
        shown = tuple(map(printable_line, cells))
        yield Choice(id=entry.path, cells=shown, about=printable_line(about), search=" ".join(shown))


def written_for(model: str, folder: str) -> str:
    """The file for a model: written by `config new`, unless there is one already.

    Raises:
        InferDevError: the model cannot be served, or the file not be written.
    """
    path = os.path.join(folder, f"{os.path.basename(model).removesuffix('.gguf')}.toml")
    if not os.path.exists(path):
        from infer_dev.cli.config_new import new  # noqa: PLC0415 - only for a model

        new([model], output=path)
    return path
