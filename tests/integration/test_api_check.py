"""`POST /check`: what `infer-dev check --json` says, by a process beside the daemon, which waits for none of it."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from infer_dev.api.check import CheckRoute
from infer_dev.api.http import Request
from infer_dev.errors import TimedOutError
from tests.conftest import DEADLINE_S, STAND_IN, Cli, Parts, eventually, is_alive
from tests.integration.test_supervisor import FREE_PORT, running_rack
from tests.parts.http_client import TIMEOUT_S, Answer, ask

HANGS = """#!/bin/sh
# A llama-server whose --help does not come to its end.
echo $$ >> {pids}
exec sleep 600
"""


def numbers_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def checks_of(pid: int) -> list[int]:
    """The checks among the children of a process."""
    found = []
    with suppress(OSError):  # a thread may just have ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if is_alive(child) and b"infer_dev.check.apart" in command_line(child)]


def command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class Rack:
    """A daemon with one instance of the stand-in, and a file beside it whose llama-server hangs."""

    def __init__(self, folder: Path, cli: Cli) -> None:
        self.folder, self.cli = folder, cli
        self.port, self.api_port = free(), free()
        self.socket, self.pids = cli.runtime / "control.sock", folder / "pids"
        self.path = self.write("rack", STAND_IN, self.port)
        assert cli("up", self.path, "--no-check").returncode == 0

    def write(self, name: str, server: Path | str, port: int, more: str = "") -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'[master]\nllama_cpp_path = "{server}"\napi_port = {self.api_port}\n[instance.control]\n'
            f'log_dir = "{self.folder}"\n[instance.{name}.server]\nport = {port}\nmodel = "{__file__}"\n{more}'
        )
        return path

    def hanging(self) -> Path:
        self.pids.unlink(missing_ok=True)
        server = self.folder / "hangs"
        server.write_text(HANGS.format(pids=self.pids))
        server.chmod(0o755)
        return self.write("hangs", server, free())

    def check(self, path: Path, **more: object) -> Answer:
        body = {"config": str(path), "overrides": None, "search_path": "", **more}
        return ask(self.socket, "/check", method="POST", body=body)

    def asked(self, path: Path) -> socket.socket:
        """A request whose answer is not read."""
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(TIMEOUT_S)
        one.connect(str(self.socket))
        body = json.dumps({"config": str(path), "search_path": ""})
        one.sendall(f"POST /check HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        return one

    def hanging_pids(self) -> list[int]:
        return numbers_in(self.pids)

    def children(self) -> list[int]:
        return checks_of(self.cli.daemon_pid() or 0)


def free() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Iterator[Rack]:
    """One for all: no check changes anything."""
    folder = tmp_path_factory.mktemp("rack")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AUTO_INFER_", "INFER_DEV_"))}
    env |= {"INFER_DEV_RUNTIME_DIR": str(folder / "run"), "INFER_DEV_CACHE_DIR": str(cache_folder), "NO_COLOR": "1"}
    one = Rack(folder, Cli(folder / "run", env | {"XDG_DATA_HOME": str(folder / "data")}))
    yield one
    one.cli("down")


@pytest.mark.real
def test_answer_is_that_of_the_command(rack: Rack, parts: Parts) -> None:
    more = f'[instance.b.server]\nmodel = "/none.gguf"\nport = {rack.port}\nctx_sise = 1\n'
    path = rack.write("a", parts.server, free(), more)
    told = rack.check(path).json()
    by_command = json.loads(rack.cli("check", path, "--json").stdout)
    assert told.keys() == by_command.keys()
    assert told["findings"] == by_command["findings"]
    assert (told["errors"], told["warnings"]) == (by_command["errors"], by_command["warnings"])
    places = {(one["level"], one["key"]) for one in told["findings"]}
    assert ("error", "instance.b.server.ctx_sise") in places
    assert ("error", "instance.b.server.port") in places  # rack's, who has nothing to do with this file
    assert told["errors"] >= 3


@pytest.mark.real
def test_plan_tells_the_errors_of_what_would_start_and_of_nothing_else(rack: Rack, parts: Parts) -> None:
    more = '[instance.off.control]\nautostart = false\n[instance.off.server]\nmodel = "/none.gguf"\n'
    path = rack.write("a", parts.server, free(), f"{more}port = {free()}\n")
    path.write_text(path.read_text().replace(__file__, parts.model).replace("model =", "ctx_sise = 1\nmodel =", 1))
    plan = rack.cli("plan", path)
    assert (plan.returncode, plan.stdout.splitlines()) == (78, ["+ start    a", "+ add      off"])
    first, *errors = plan.stderr.splitlines()
    assert first == "infer-dev: the check finds 1 error in what would start:"
    assert ["instance.a.server.ctx_sise" in one for one in errors] == [True]


def test_own_instances_and_the_api_are_no_obstacle(rack: Rack) -> None:
    levels = {one["key"]: one["level"] for one in rack.check(rack.path).json()["findings"]}
    assert levels.get("instance.rack.server.port") is None
    assert levels.get("master.api_port") is None


def test_path_and_overrides_are_those_of_who_asks_or_of_who_brought_it_up(rack: Rack) -> None:
    bin_folder = rack.folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "llama-server").symlink_to(STAND_IN)
    path = rack.write("found", "", free())
    path.write_text(path.read_text().replace('llama_cpp_path = ""\n', ""))
    server = str(bin_folder / "llama-server")
    over = json.dumps({"instance": {"found": {"server": {"model": "/over.gguf"}}}})
    assert rack.check(path, search_path=str(bin_folder)).json()["binary"] == server
    env = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "AUTO_INFER_LLAMA_CPP_OVERRIDES": over}
    assert rack.cli("up", path, "--no-check", "--no-wait", **env).returncode == 0
    told = rack.check(path, search_path=None).json()
    assert (told["binary"], "/over.gguf" in json.dumps(told["findings"])) == (server, True)
    planned = ask(rack.socket, "/plan", method="POST", body={"config": str(path)})
    assert planned.json()["changes"]["unchanged"] == ["found"]
    told = rack.check(path).json()
    assert (told["binary"], "/over.gguf" in json.dumps(told["findings"])) == (None, False)


def test_file_that_cannot_be_read_is_an_error_and_mistakes_are_findings(rack: Rack) -> None:
    missing = rack.check(rack.folder / "none.toml")
    assert (missing.status, missing.json()["title"]) == (422, "config")
    assert missing.headers["content-type"] == "application/problem+json"
    assert "no such file" in missing.json()["detail"]
    path = rack.write("typo", STAND_IN, free(), "[instance.typo.control]\ngpu_idz = 1\n")
    (one,) = rack.check(path).json()["findings"]
    assert (one["level"], one["code"], one["instance"]) == ("error", "config", "typo")


def test_without_a_token_it_is_refused_over_tcp(rack: Rack) -> None:
    body = {"config": str(rack.path), "search_path": ""}
    eventually(lambda: ask(rack.api_port, "/healthz").status == 200)
    refused = ask(rack.api_port, "/check", method="POST", body=body)
    assert (refused.status, refused.json()["title"]) == (403, "forbidden")


def test_who_hangs_up_ends_the_check_and_what_it_has_started(rack: Rack) -> None:
    endless = rack.folder / "endless.toml"
    os.mkfifo(endless)  # whoever opens it waits for good
    with rack.asked(endless), rack.asked(rack.hanging()):
        (pid,) = eventually(rack.hanging_pids)  # type: ignore[misc] # `eventually` gives an object
        eventually(lambda: len(rack.children()) == 2)
        assert is_alive(pid)
    eventually(lambda: not is_alive(pid) and not rack.children())


def test_no_more_than_two_run_at_once_and_those_that_wait_get_their_turn(rack: Rack) -> None:
    path = rack.hanging()
    first = [rack.asked(path), rack.asked(path)]
    eventually(lambda: len(rack.hanging_pids()) == 2)
    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(rack.check(rack.path)))
    waiting.start()
    third = rack.asked(path)
    assert rack.cli("status").returncode == 0  # nobody else waits
    assert len(rack.children()) == 2
    third.close()
    for one in first:
        one.close()
    waiting.join(TIMEOUT_S)
    assert answers[0].status == 200
    eventually(lambda: not rack.children() and not any(map(is_alive, rack.hanging_pids())))
    assert len(rack.hanging_pids()) == 2  # who hung up while it waited was forgotten


def test_daemon_that_leaves_waits_for_no_check(rack: Rack) -> None:
    with rack.asked(rack.hanging()) as asked:
        (pid,) = eventually(rack.hanging_pids)  # type: ignore[misc] # as above
        before = rack.cli.daemon_pid()
        assert rack.cli("daemon", "--replace").returncode == 0
        assert rack.cli.daemon_pid() != before
        assert b" 503 " in asked.recv(4096)
    eventually(lambda: not is_alive(pid))


async def test_check_that_takes_too_long_is_given_up_and_ended(
    tmp_path: Path, free_port: FREE_PORT, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFER_DEV_CACHE_DIR", str(cache_folder))
    endless = tmp_path / "endless.toml"
    os.mkfifo(endless)
    body = json.dumps({"config": str(endless), "search_path": ""}).encode()
    async with running_rack(tmp_path, free_port) as rack:
        with pytest.raises(TimedOutError, match="takes longer than 1 s"):
            await CheckRoute(rack.supervisor, timeout_s=1).check(Request("POST", "/check", {}, {}, {}, body))
        async with asyncio.timeout(DEADLINE_S):
            while checks_of(os.getpid()):
                await asyncio.sleep(0.02)
