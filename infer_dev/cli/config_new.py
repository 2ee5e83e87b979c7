"""`infer-dev config new`: a file to start from, for models that are here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tomli_w

from infer_dev.cli.text import size
from infer_dev.config.place import dotted
from infer_dev.errors import EXIT_OK, ConfigError, UsageError
from infer_dev.host import ports
from infer_dev.llama_cpp.gguf.model import Model, ModelKind, read_model
from infer_dev.plan.model import Endpoint
from infer_dev.settings import CONTAINER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FIRST_PORT = 8080
LAST_PORT = 65535
CONTEXT_TOKENS = 16384
RANK_POOLING = 4  # LLAMA_POOLING_TYPE_RANK
EVERYWHERE = "0.0.0.0"  # noqa: S104 - in the container the published port decides who can reach it
PARAMETER_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One instance to write.

    Attributes:
        name: of the instance.
        model: what it serves.
        mmproj: path of the projector beside it, or "".
        port: where.
    """

    name: str
    model: Model
    mmproj: str
    port: int


def new(paths: Sequence[str], *, output: str | None = None) -> int:
    """Write a commented file that serves these models.

    Raises:
        GgufError: one cannot be read.
        ConfigError: one is incomplete, or nothing that can be served.
        UsageError: `output` exists.
    """
    text = text_of(list(entries_of(paths, is_free=_is_free)), host=_host())
    if output is None:
        print(text, end="")
        return EXIT_OK
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as err:
        raise UsageError(f"cannot write {output}: it exists", hint="name another file, or remove that one") from err
    except OSError as err:
        raise UsageError(
            f"cannot write {output}: {err.strerror}", hint="name a file in a folder that you may write"
        ) from err
    print(f"{output}: written; `infer-dev up {output}` starts it")
    return EXIT_OK


def entries_of(paths: Sequence[str], *, is_free: Callable[[int], bool]) -> Iterator[Entry]:
    """An instance a model, each with a name and a port of its own."""
    names: set[str] = set()
    port = FIRST_PORT - 1
    for path in paths:
        model = _served(os.path.abspath(path))
        port = next(one for one in range(port + 1, LAST_PORT + 1) if is_free(one))
        name = _name_of(model, names)
        names.add(name)
        yield Entry(name=name, model=model, mmproj=_mmproj_beside(model), port=port)


def text_of(entries: Sequence[Entry], *, host: str) -> str:
    """The file."""
    lines = [
        "# Written by `infer-dev config new`. `infer-dev check FILE` tells mistakes, `infer-dev up FILE` serves.",
        "# Every key of a `server` table is an option of llama-server: ctx_size is --ctx-size.",
        "",
        "[instance.server]",
        "# The address all instances listen on. 127.0.0.1: only this machine; 0.0.0.0: every network it is in.",
        _line("host", host),
    ]
    for entry in entries:
        lines += ["", *_instance(entry)]
    return "\n".join(lines) + "\n"


def _instance(entry: Entry) -> Iterator[str]:
    model = entry.model
    facts = [
        model.architecture,
        f"{_count(model.parameters)} parameters",
        model.quantisation,
        size(model.size_bytes),
        f"trained for {model.context_tokens} tokens" if model.context_tokens else "",
    ]
    yield f"# {_comment(model.name or entry.name)}: {_comment(', '.join(fact for fact in facts if fact))}"
    yield _header(entry.name, "server")
    yield _line("model", model.path)
    if entry.mmproj:
        yield "# Reads pictures (or sound) for it."
        yield _line("mmproj", entry.mmproj)
    yield "# What clients call it."
    yield _line("alias", entry.name)
    yield _line("port", entry.port)
    yield from _use(model)
    yield ""
    yield "# Pins it to GPUs, by the numbers that nvidia-smi shows; all GPUs without it."
    yield f"# {_header(entry.name, 'control')}"
    yield '# gpu_ids = "0"'


def _use(model: Model) -> Iterator[str]:
    pooling = model.number("pooling_type")
    if pooling == RANK_POOLING:
        yield "# It ranks documents: POST /v1/rerank."
        yield _line("reranking", True)
    elif pooling is not None or model.metadata.get(f"{model.architecture}.attention.causal") is False:
        yield "# It turns text into vectors: POST /v1/embeddings."
        yield _line("embeddings", True)
    else:
        tokens = min(model.context_tokens or CONTEXT_TOKENS, CONTEXT_TOKENS)
        yield "# Tokens it can keep in mind, prompt and answer together. More of them need more memory."
        yield _line("ctx_size", tokens)


def _served(path: str) -> Model:
    model = read_model(path)
    if model.kind is not ModelKind.MODEL:
        raise ConfigError(
            f"cannot serve {path}: it is no model but a {model.kind}", hint="name the model it belongs to"
        )
    if model.problems:
        problem = model.problems[0]
        raise ConfigError(f"cannot serve {path}: {problem.message}", hint=problem.hint)
    return model


def _mmproj_beside(model: Model) -> str:
    """The only projector in the model's folder, or ""."""
    folder = os.path.dirname(model.path)
    found = [one for one in os.listdir(folder) if re.fullmatch(r"mmproj.*\.gguf", one, re.IGNORECASE)]
    return os.path.join(folder, found[0]) if len(found) == 1 else ""


def _name_of(model: Model, taken: set[str]) -> str:
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", os.path.basename(model.path).removesuffix(".gguf"))
    name = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._") or "model"
    if name in ("server", "control"):
        name = f"model-{name}"
    numbers = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (name, *numbers) if one not in taken)


def _header(name: str, table: str) -> str:
    return f"[{dotted(('instance', name, table))}]"


def _line(key: str, value: object) -> str:
    return tomli_w.dumps({key: value}).rstrip("\n")


def _comment(text: str) -> str:
    """`text` as it can stand in a comment: TOML forbids control characters there."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _count(number: int) -> str:
    for step, unit in PARAMETER_STEPS:
        if number >= step:
            return f"{number / step:.3g}{unit}"
    return str(number)


def _host() -> str:
    return EVERYWHERE if os.path.isdir(CONTAINER_PREFIX) else "127.0.0.1"


def _is_free(port: int) -> bool:
    host = _host()
    return ports.is_free(Endpoint(bind_host=host, dial_host="127.0.0.1", port=port))
