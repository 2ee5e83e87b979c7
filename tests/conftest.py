"""Fixtures for all tests: real parts, a private runtime directory, the command line as users call it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT / "tests" / "parts" / "stand_in.py"
DEADLINE_S = 30.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With INFER_DEV_FORBID_SKIPS set (as .ci/run does) a skip is a failure, unless it is for want of a GPU."""
    report = yield
    if report.skipped and os.environ.get("INFER_DEV_FORBID_SKIPS"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "GPU" not in reason:
            report.outcome, report.longrepr = "failed", f"skips are forbidden here: {reason}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With INFER_DEV_RERUN set (as .ci/run does) a test that fails is run once more.

    The summary lists it as RERUN: on a busy machine it was late, or there is a fault that comes seldom.
    """
    if os.environ.get("INFER_DEV_RERUN"):
        for item in items:
            item.add_marker(pytest.mark.flaky(reruns=1))


class ByModule(LoadFileScheduling):
    """The tests of one module stay with one worker, and so do all that use the one container engine."""

    def _split_scope(self, nodeid: str) -> str:
        module: str = super()._split_scope(nodeid)
        return "container" if module.startswith("tests/container/") else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    """Who runs what, where there are several workers."""
    return ByModule(config, log)


@dataclass(frozen=True)
class Parts:
    server: str
    model: str


@pytest.fixture(scope="session")
def parts() -> Parts:
    """The real llama-server and the small model."""
    made = subprocess.run(
        [sys.executable, "-m", "tests.parts", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if made.returncode:
        pytest.skip("no real llama-server can be had here; `python -m tests.parts` says why")
    found = json.loads(made.stdout)
    return Parts(server=found["llama_server"], model=found["model"])


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives ports that nobody listens on; each one once."""
    given: set[int] = set()

    def one() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return one


@dataclass
class Cli:
    """The command line in a runtime directory of its own."""

    runtime: Path
    env: dict[str, str]
    before: Sequence[str] = ()  # words before the command

    def __call__(self, *args: str | Path, timeout_s: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.before, sys.executable, "-m", "infer_dev", *map(str, args)],
            cwd=ROOT,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *args: str | Path, **env: str) -> subprocess.Popen[str]:
        """The command in the background, its output piped."""
        return subprocess.Popen(
            [*self.before, sys.executable, "-m", "infer_dev", *map(str, args)],
            cwd=ROOT,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def status(self) -> dict[str, dict[str, object]]:
        """`status --json`: name → instance."""
        shown = self("status", "--json")
        assert shown.stdout, shown.stderr
        return {one["name"]: one for one in json.loads(shown.stdout)["instances"]}

    def daemon_pid(self) -> int | None:
        """The pid in the lock, if a daemon runs."""
        try:
            return int((self.runtime / "daemon.lock").read_text())
        except (OSError, ValueError):
            return None


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command line keeps what it has read of binaries and models; the developer's own is left alone."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cli(tmp_path: Path, cache_folder: Path) -> Iterator[Cli]:
    runtime = tmp_path / "run"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AUTO_INFER_", "INFER_DEV_"))}
    env |= {"INFER_DEV_RUNTIME_DIR": str(runtime), "NO_COLOR": "1", "COLUMNS": "200"}
    env["XDG_DATA_HOME"] = str(tmp_path / "data")  # no bundle of the developer's is found
    env["INFER_DEV_CACHE_DIR"] = str(cache_folder)
    one = Cli(runtime, env)
    yield one
    one("down")
    left = marked_processes(runtime)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes left behind: {left}"


def marked_processes(runtime: Path) -> list[int]:
    """Pids that carry the mark of a runtime directory in their environment."""
    mark = f"INFER_DEV_INSTANCE_RUNTIME={runtime}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def eventually(condition: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> object:
    """The first true value of `condition`, asked again and again; fails after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, "the condition did not come about"
        time.sleep(0.02)


def chat(port: object) -> str:
    """The first words of a llama-server on this host."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["choices"][0]["message"]["content"]
