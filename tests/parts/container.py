"""Containers under test: the image through Compose and without it, each project with folders and ports of its own."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.parts.engine import HERE, TEST_IMAGE_NAME

IMAGE = f"{TEST_IMAGE_NAME}:stage-2"
COMMAND_TIMEOUT_S = 60
DEV_UID = 1000  # of `dev` in the image that is tested
PORT_VARIABLES = {8080: "INFER_DEV_PORT_8080", 8000: "INFER_DEV_PORT_8000", 22: "INFER_DEV_PORT_SSH"}
Done = subprocess.CompletedProcess[str]


def docker(*args: str, env: dict[str, str] | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Done:
    """`docker ARGS`; its status is the caller's to judge."""
    return subprocess.run(
        ["docker", *args],
        env=env,
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def ok(done: Done) -> str:
    """What a command wrote, if it succeeded."""
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@dataclass
class Container:
    """One container that runs, or has ended."""

    name: str
    ports: dict[int, int]
    key: Path

    def exec(self, *argv: str, user: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Done:
        """`docker exec`."""
        who = ["-u", user] if user else []
        return docker("exec", *who, self.name, *argv, timeout_s=timeout_s)

    def ssh(self, *command: str, user: str = "dev", options: tuple[str, ...] = ()) -> Done:
        """Log in with the key."""
        return subprocess.run(
            [*self.ssh_command(user), *options, "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def ssh_command(self, user: str = "dev") -> list[str]:
        """How to log in; the host's key is taken as it is."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        settings = [word for option in options for word in ("-o", option)]
        return [
            *("ssh", "-F", "none", "-i", str(self.key), "-o", "IdentitiesOnly=yes", *settings),
            *("-p", str(self.ports[22]), f"{user}@127.0.0.1"),
        ]

    def wait_for_ssh(self) -> None:
        """Wait until sshd lets us in."""
        eventually(lambda: self.ssh("true").returncode == 0)

    def status(self) -> dict[str, dict[str, object]]:
        """`infer-dev status --json` in it: name → instance; none while no daemon answers."""
        shown = self.exec("infer-dev", "status", "--json").stdout
        return {one["name"]: one for one in json.loads(shown)["instances"]} if shown else {}

    def wait_until_ready(self, *names: str) -> dict[str, dict[str, object]]:
        """Wait until these instances are ready; all instances."""

        def are_ready() -> bool:
            found = self.status()
            return all(name in found and found[name]["state"] == "ready" for name in names)

        try:
            eventually(are_ready)
        except AssertionError:
            pytest.fail(f"{names} did not become ready: {self.status()}\n{self.logs()}")
        return self.status()

    def logs(self) -> str:
        """`docker logs`, both streams in order."""
        return subprocess.run(
            ["docker", "logs", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        ).stdout

    def inspect(self, template: str) -> str:
        """`docker inspect --format`."""
        return ok(docker("inspect", "--format", template, self.name))

    def pids(self, pattern: str) -> list[int]:
        """Pids inside it whose command line matches."""
        return [int(word) for word in self.exec("pgrep", "-f", pattern).stdout.split()]


@dataclass
class Stack:
    """A Compose project of its own: folders, ports, and what was started in it."""

    folder: Path
    environ: dict[str, str]
    ports: dict[int, int]
    key: Path
    project: str
    started: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("workspace", "ssh", "configs", "models", "packages"):
            (self.folder / name).mkdir()
        (self.folder / "ssh" / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())

    def config(self, text: str, *, name: str = "it.toml") -> str:
        """Put a configuration into the container's folder for them; its path there."""
        (self.folder / "configs" / name).write_text(text)
        return f"/model-configs/{name}"

    def compose(self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Done:
        """`docker compose ARGS`, with `env` in front of it."""
        return docker("compose", *args, env=self.environ | dict(env or {}), timeout_s=timeout_s)

    def run(
        self, *command: str, passed: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
    ) -> Container:
        """`docker compose run -d --service-ports [-e PASSED…] stage-2 COMMAND`, with `env` in front of it."""
        name = f"{self.project}-{len(self.started)}"
        flags = [word for item in (passed or {}).items() for word in ("-e", "=".join(item))]
        self.started.append(name)
        ok(self.compose(*("run", "-d", "--service-ports", "--name", name, *flags, "stage-2", *command), env=env))
        return Container(name, self.ports, self.key)

    def plain(self, *arguments: str, options: tuple[str, ...] = ()) -> Container:
        """`docker run -d OPTIONS IMAGE ARGUMENTS`: without Compose."""
        name = f"{self.project}-{len(self.started)}"
        self.started.append(name)
        ok(
            docker(
                *("run", "-d", "--name", name, "-p", f"127.0.0.1:{self.ports[22]}:22"),
                *("-p", f"127.0.0.1:{self.ports[8080]}:8080", *options, IMAGE, *arguments),
            )
        )
        return Container(name, self.ports, self.key)

    def end(self) -> None:
        """Remove everything."""
        if self.started:
            docker("rm", "-f", "-v", *self.started)
        self.compose("down", "-v", "--remove-orphans", "-t", "1")
