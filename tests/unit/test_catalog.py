"""What can be run, and what the older wrapper's programs look for."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from infer_dev.api.catalog import Catalog, wrapper_keys
from infer_dev.api.http import Request
from infer_dev.plan.model import Command, Endpoint, Spec
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.status import Status
from tests.parts import tiny_model


def spec_of(folder: Path, name: str, *argv: str, **more: Any) -> Spec:
    command = Command(argv=("/b/llama-server", *argv), cwd=str(folder), log_file=f"/tmp/{name}.log", **more)
    return Spec(
        name=name,
        source="/x.toml",
        command=command,
        endpoint=Endpoint(bind_host="0.0.0.0", dial_host="127.0.0.1", port=9000),
    )


def status_of(name: str, state: State, **more: object) -> Status:
    return Status(**{**dict.fromkeys(field.name for field in fields(Status)), "name": name, "state": state, **more})


class Shown:
    """A supervisor, as far as the catalogue looks."""

    def __init__(self, specs: Sequence[Spec], state: State = State.STOPPED, detail: str = "") -> None:
        self._specs, self._state, self._detail = specs, state, detail

    def specs(self) -> dict[str, Spec]:
        return {one.name: one for one in self._specs}

    def status(self) -> list[Status]:
        return [status_of(one.name, self._state, detail=self._detail) for one in self._specs]


async def rows(catalog: Catalog) -> dict[str, dict[str, Any]]:
    answer = await catalog.models(Request("GET", "/models", {}, {}, {}, b""))
    assert isinstance(answer.body, bytes)
    return {one["id"]: one for one in json.loads(answer.body)["models"]}


async def test_model_in_parts_counts_as_one_and_a_part_that_comes_later_is_seen(tmp_path: Path) -> None:
    parts = tiny_model.write_shards(tmp_path / "m.gguf", tensors_per_shard=10)
    hidden = parts[1].rename(tmp_path / "hidden")
    catalog = Catalog(Shown([spec_of(tmp_path, "a", "--model", parts[0].name)]))  # type: ignore[arg-type] # stands in
    before = (await rows(catalog))["a"]
    assert parts[1].name in before["reason"]
    hidden.rename(parts[1])
    after = (await rows(catalog))["a"]
    assert after["reason"] == ""
    assert after["size_bytes"] == sum(part.stat().st_size for part in parts)
    assert (after["context_tokens"], after["architecture"]) == (tiny_model.CONTEXT_TOKENS, "llama")


async def test_model_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "m.gguf")
    catalog = Catalog(Shown([spec_of(tmp_path, "a", "-m", "m.gguf")]))  # type: ignore[arg-type] # as above
    small = (await rows(catalog))["a"]["size_bytes"]
    tiny_model.write(tmp_path / "m.gguf", blocks=3)
    assert (await rows(catalog))["a"]["size_bytes"] > small


@pytest.mark.parametrize(
    ("argv", "env", "tokens"),
    [
        (("--ctx-size", "512"), {}, 512),
        (("--ctx-size", "512", "-c", "1024"), {}, 1024),
        (("--ctx_size", "512"), {}, 512),
        ((), {"LLAMA_ARG_CTX_SIZE": "256"}, 256),
        (("--ctx-size", "0"), {}, tiny_model.CONTEXT_TOKENS),
        (("--ctx-size", "many"), {}, tiny_model.CONTEXT_TOKENS),
        ((), {}, tiny_model.CONTEXT_TOKENS),
    ],
)
async def test_context_is_what_was_asked_for_else_the_models(
    tmp_path: Path, argv: tuple[str, ...], env: dict[str, str], tokens: int
) -> None:
    tiny_model.write(tmp_path / "m.gguf")
    specs = [spec_of(tmp_path, "a", "--model", "m.gguf", *argv, env=env)]
    assert (await rows(Catalog(Shown(specs))))["a"]["ctx_size"] == tokens  # type: ignore[arg-type] # as above


async def test_what_no_file_tells_is_null(tmp_path: Path) -> None:
    shown = Shown([spec_of(tmp_path, "a", "--hf-repo", "some/model")], State.FAILED, "it could not be downloaded")
    found = (await rows(Catalog(shown)))["a"]  # type: ignore[arg-type] # as above
    unknown = ("size_bytes", "context_tokens", "ctx_size", "architecture", "quantisation", "speed")
    assert [found[key] for key in unknown] == [None] * 6
    assert (found["reason"], found["active"], found["is_bench"]) == ("it could not be downloaded", False, False)


@pytest.mark.parametrize(
    ("states", "want"),
    [
        ([], (None, "stopped", "stopped")),
        ([State.STOPPED, State.READY], ("i1", "ready", "ok")),
        ([State.FAILED, State.STARTING], ("i1", "starting", "loading")),
        ([State.STARTING, State.DEGRADED], ("i1", "degraded", "error")),
        ([State.FAILED, State.STOPPED], ("i0", "failed", "error")),
        ([State.DISABLED], ("i0", "disabled", "stopped")),
        ([State.BACKOFF], ("i0", "backoff", "error")),
        ([State.STOPPING], ("i0", "stopping", "stopping")),
    ],
)
def test_one_instance_stands_for_all_in_the_wrappers_keys(
    states: list[State], want: tuple[str | None, str, str]
) -> None:
    told = wrapper_keys([status_of(f"i{number}", state) for number, state in enumerate(states)])
    assert (told["model"], told["state"], told["status"]) == want
