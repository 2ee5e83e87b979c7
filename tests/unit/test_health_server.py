"""What is read from llama-server's command line and answers."""

import json
from pathlib import Path

import pytest

from infer_dev.plan.model import Command
from infer_dev.supervisor.health import Reply, server
from infer_dev.supervisor.health.server import Look


def command(*args: str, cwd: str = "/", **env: str) -> Command:
    return Command(argv=("llama-server", *args), env=env, cwd=cwd, log_file="/dev/null")


def slots(*found: object) -> Look | None:
    return server.slots(Reply("/slots", 200, json.dumps(list(found)).encode()))


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (command("-m", "a.gguf"), "/completion"),
        (command("--embeddings"), "/embeddings"),
        (command("--embedding", "--pooling", "mean"), "/embeddings"),
        (command("--pooling", "cls"), "/embeddings"),
        (command("--embd-gemma-default"), "/embeddings"),
        (command("--embd-normalize", "2"), "/completion"),
        (command(LLAMA_ARG_EMBEDDINGS="1"), "/embeddings"),
        (command(LLAMA_ARG_EMBEDDINGS="off"), "/completion"),
        (command("--embeddings", "--reranking"), "/v1/rerank"),
        (command("--rerank"), "/v1/rerank"),
        (command(LLAMA_ARG_RERANKING="true"), "/v1/rerank"),
    ],
)
def test_question_is_one_the_server_can_bear(asked: Command, path: str) -> None:
    assert server.question(asked).path == path


def test_slot_is_named_for_a_completion_only() -> None:
    assert json.loads(server.question(command()).encoded(3))["id_slot"] == 3
    assert "id_slot" not in json.loads(server.question(command()).encoded(None))
    assert "id_slot" not in json.loads(server.question(command("--embeddings")).encoded(3))


@pytest.mark.parametrize(
    ("given", "seconds"), [((), None), (("-1",), None), (("0",), 0), (("60",), 60), (("soon",), None)]
)
def test_sleep_is_read_from_the_arguments(given: tuple[str, ...], seconds: float | None) -> None:
    flags = ("--sleep-idle-seconds", *given) if given else ()
    assert server.sleeps_after_s(command(*flags)) == seconds


def test_key_comes_from_arguments_environment_or_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# a note\n\nthird\nfourth\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    here = str(tmp_path)
    assert server.api_key(command()) is None
    assert server.api_key(command("--api-key", "first,second")) == "first"
    assert server.api_key(command(LLAMA_API_KEY="second")) == "second"
    assert server.api_key(command("--api-key-file", "keys", cwd=here)) == "third"
    assert server.api_key(command(cwd="/", LLAMA_ARG_API_KEY_FILE=f"{here}/keys")) == "third"
    assert server.api_key(command("--api-key-file", "none", cwd=here)) is None
    assert server.api_key(command("--api-key-file", "bytes", cwd=here)) is None


def test_slots_of_an_older_build_are_read() -> None:
    idle = {"id": 0, "is_processing": False}
    busy = {"id": 1, "is_processing": True, "id_task": 4, "n_past": 7, "next_token": {"n_decoded": 5}}
    seen = slots(idle, busy)
    assert seen is not None
    assert (seen.busy, seen.spare_slot) == (1, 0)
    assert seen != slots(idle, busy | {"n_past": 8})
    assert seen != slots(idle, busy | {"next_token": {"n_decoded": 6}})
    assert seen == slots(idle, busy | {"prompt": "another"})


def test_spare_slot_is_the_one_that_holds_least() -> None:
    held = [{"id": number, "is_processing": False, "n_prompt_tokens": size} for number, size in enumerate((9, 4, 7))]
    seen = slots(*held, {"id": 3, "is_processing": True})
    assert seen is not None
    assert (seen.spare_slot, seen.spare_tokens) == (1, 4)
    assert slots({"id": 0, "is_processing": True}) == Look(1, ((0, None, 0, 0, 0, 0),))


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[" * 100_000, b"null", b'"x"', b"\xff"])
def test_slots_that_are_none_are_no_look(body: bytes) -> None:
    assert server.slots(Reply("/slots", 200, body)) is None


@pytest.mark.parametrize("body", [b"", b"llamacpp:requests_processing x", b"# HELP requests_processing", b"\xff\n\n"])
def test_metrics_that_are_none_are_no_look(body: bytes) -> None:
    assert server.metrics(Reply("/metrics", 200, body)) is None


def test_answers_that_failed_tell_nothing() -> None:
    assert server.slots(Reply("/slots", 500, b"[]")) is None
    assert server.metrics(Reply("/metrics", 500, b"llamacpp:requests_processing 1")) is None
    assert server.is_sleeping(Reply("/props", 401, b'{"is_sleeping":true}')) is None
    assert server.is_sleeping(Reply("/props", 200, b'{"is_sleeping":1}')) is None


def test_loading_is_503_with_its_words() -> None:
    assert server.is_loading(Reply("/health", 503, b'{"error":{"message":"Loading model"}}'))
    assert not server.is_loading(Reply("/health", 503, b"busy"))
