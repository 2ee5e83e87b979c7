"""Every reply of a daemon is what the API's description says, and what is not a request is told so."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from infer_dev.api import models
from tests.conftest import ROOT, STAND_IN, Cli, Parts
from tests.parts.http_client import Answer, ask

TOKEN = "t0ken"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance"
)


class Rack:
    """One instance of the real server, one that fails, one that is off."""

    def __init__(self, folder: Path, cli: Cli, parts: Parts, free_port) -> None:
        self.cli, self.port = cli, free_port()
        self.socket = cli.runtime / "control.sock"
        self.path = folder / "rack.toml"
        self.path.write_text(
            f"""
[master]
llama_cpp_path = "{parts.server}"
api_port = {self.port}
api_token = "{TOKEN}"
[instance.control]
log_dir = "{folder}"
[instance.a-real-one.server]
model = "{parts.model}"
port = {free_port()}
alias = "small"
[instance.b.control]
restart = "never"
[instance.b.server]
model = "{parts.model}"
port = {free_port()}
ctx_size = 512
lora = "/missing.gguf"
[instance.c.control]
autostart = false
group = "g"
[instance.c.server]
model = "{folder}/absent.gguf"
port = {free_port()}
"""
        )
        self.up = cli("up", self.path, "--no-check")

    def ask(self, target: str, *, method: str = "GET", body: object = None) -> Answer:
        return ask(self.socket, target, method=method, body=body)


@pytest.fixture
def rack(tmp_path: Path, cli: Cli, parts: Parts, free_port) -> Rack:
    return Rack(tmp_path, cli, parts, free_port)


def unknown_keys(value: BaseModel) -> Iterator[str]:
    """What the description leaves out."""
    yield from (f"{type(value).__name__}.{key}" for key in value.model_extra or {})
    for name in type(value).model_fields:
        inner = getattr(value, name)
        for one in inner if isinstance(inner, list) else inner.values() if isinstance(inner, dict) else [inner]:
            if isinstance(one, BaseModel):
                yield from unknown_keys(one)


def hold(answer: Answer, name: str) -> Any:  # Any: the model is known by its name
    """The reply as its model; fails if it is not, or if it has keys that are not described."""
    assert answer.headers["content-type"] == "application/json", answer.body
    assert answer.status == 200, answer.body
    reply = getattr(models, name).model_validate_json(answer.body)
    assert list(unknown_keys(reply)) == []
    return reply


@pytest.mark.real
def test_every_reply_is_as_described(rack: Rack) -> None:
    body = {"config": str(rack.path), "search_path": "", "check": False}
    hold(rack.ask("/healthz"), "Health")
    status = hold(rack.ask("/status?log_line=1"), "StatusReply")
    assert (status.model, status.model_name, status.state, status.status) == ("a-real-one", "small", "ready", "ok")
    assert {one.name: one.state for one in status.instances} == {"a-real-one": "ready", "b": "failed", "c": "stopped"}
    assert hold(rack.ask("/status?name=b"), "StatusReply").status == "error"

    listed = {one.id: one for one in hold(rack.ask("/models"), "ModelsReply").models}
    assert list(listed) == ["a-real-one", "b", "c"]
    one = listed["a-real-one"]
    assert (one.name, one.active, one.architecture, one.context_tokens) == ("small", True, "llama", 2048)
    assert one.size_bytes == Path(one.model).stat().st_size
    assert one.url == f"http://127.0.0.1:{one.port}"
    assert (listed["b"].ctx_size, listed["b"].active) == (512, False)
    assert listed["b"].reason
    assert (listed["c"].size_bytes, listed["c"].group) == (None, "g")
    assert "absent.gguf" in listed["c"].reason

    hold(rack.ask("/plan", method="POST", body=body), "PlanReply")
    asked = {"config": str(rack.path), "search_path": ""}
    report = hold(rack.ask("/check", method="POST", body=asked), "CheckReply")
    assert (report.errors, {one.instance for one in report.findings if one.level == "error"}) == (2, {"b", "c"})
    hold(rack.ask("/up", method="POST", body=body), "UpReply")
    hold(rack.ask("/reload", method="POST", body={}), "ReloadReply")
    for action in ("restart", "stop", "start"):
        hold(rack.ask(f"/instances/a-real-one/{action}", method="POST", body={}), "ActionReply")
    hold(rack.ask("/down", method="POST", body={"unused": True}), "DownReply")
    for wrong in (
        "/nowhere",
        "/logs/nobody",
        "/status?name=nobody",
        "/events?after=x",
        f"/events?after={'9' * 5000}",
    ):
        problem = rack.ask(wrong)
        assert problem.headers["content-type"] == "application/problem+json"
        told = models.Problem.model_validate_json(problem.body)
        assert (told.status, told.error) == (problem.status, told.detail)
    hold(rack.ask("/handover", method="POST", body={}), "HandoverReply")
    assert rack.cli("daemon", "--replace").returncode == 0


MEANINGLESS: list[tuple[str, object]] = [
    ("/up", {}),
    ("/up", {"config": 1, "search_path": ""}),
    ("/up", {"config": "relative.toml", "search_path": ""}),
    ("/up", {"config": "/x\0", "search_path": ""}),
    ("/up", {"config": "/x", "search_path": "", "plan": {"specs": 1}}),
    ("/up", {"config": "/x", "search_path": "", "refused": {"a": 1}}),
    ("/check", {}),
    ("/check", {"config": "relative.toml"}),
    ("/check", {"config": "/x", "search_path": "", "check": True}),
    ("/reload", {"config": 1}),
    ("/reload", {"confg": "/x"}),
    ("/down", []),
    ("/handover", {"now": True}),
    ("/instances/a/stop", {"force": True}),
]


def test_body_that_is_not_meant_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f'[master]\nllama_cpp_path = "{STAND_IN}"\napi_port = 0\n')
    assert cli("up", path, "--no-check").returncode == 0
    pid = cli.daemon_pid()
    for target, body in MEANINGLESS:
        answer = ask(cli.runtime / "control.sock", target, method="POST", body=body)
        assert answer.status == 400, (target, body, answer.body)
        assert answer.json()["error"].startswith("cannot ")
    assert cli.daemon_pid() == pid


@pytest.mark.real
def test_daemon_holds_what_its_openapi_document_says(rack: Rack, tmp_path: Path) -> None:
    """Schemathesis sends what the document allows, and what it does not; it learns names from answers, too."""
    pid = rack.cli.daemon_pid()
    document = ask(rack.port, "/openapi.json", token=TOKEN)
    assert document.json()["openapi"] == "3.1.0"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{rack.port}/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--checks", CHECKS),
            *("--exclude-path-regex", "^/(down|handover)$"),  # after them nobody answers
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "7", "--workers", "1"),
            *("--no-color", "--request-timeout", "20", "--generation-database", "none", "--warnings", "off"),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.parts.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert rack.cli.daemon_pid() == pid
    assert set(rack.cli.status()) == {"a-real-one", "b", "c"}
