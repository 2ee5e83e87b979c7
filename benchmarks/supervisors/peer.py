"""What the measurements ask of every supervisor, ours included."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from benchmarks.stage import BenchmarkError, end_all
from benchmarks.supervisors.births import Births, until
from benchmarks.supervisors.child import Service

READY_S = 90.0
STOP_LIMIT_S = 3


class Peer(ABC):
    """One supervisor in a folder of its own. A context: in the end nothing of it runs.

    Attributes:
        name: the column's heading.
        why_not: figure → why this supervisor has none; stands in the table.
        settle_s: after this long its children count as up for good (its own `startsecs` and the like).
        can_be_asked: it takes requests without a command line being started for them.
        from_nothing: it runs no longer than its children: to start them is to start it.
    """

    name: ClassVar[str]
    why_not: ClassVar[Mapping[str, str]] = {}
    settle_s: ClassVar[float] = 1.5
    can_be_asked: ClassVar[bool] = True
    from_nothing: ClassVar[bool] = False

    def __init__(
        self, folder: Path, environ: Mapping[str, str], services: Sequence[Service], *, autostart: bool = False
    ) -> None:
        """Describe it; `autostart`: it brings all services up by itself."""
        self.folder = folder
        self.services = list(services)
        self.autostart = autostart
        self.births = Births(services[0].births)
        self.environ = {**environ, "INFER_DEV_RUNTIME_DIR": str(folder / "run")}
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        try:
            self.describe()
            self.begin()
        except BaseException:
            end_all(self.folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        end_all(self.folder)
        if self.process is not None:
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be measured here, or ""."""
        return ""

    @classmethod  # noqa: B027 - most come with `make`
    def install(cls) -> None:
        """Fetch it, where it is missing and that is possible; `missing` tells what came of it."""

    @abstractmethod
    def describe(self) -> None:
        """Write its configuration."""

    @abstractmethod
    def begin(self) -> None:
        """Start it, all services down (or coming up, with `autostart`), and wait until it can be asked."""

    @abstractmethod
    def start(self, names: Sequence[str]) -> None:
        """Ask it, from this process, to start services."""

    @abstractmethod
    def stop(self, names: Sequence[str]) -> None:
        """Ask it, from this process, to stop services."""

    @abstractmethod
    def start_command(self) -> Sequence[str]:
        """The command line that starts all services."""

    @abstractmethod
    def stop_command(self) -> Sequence[str]:
        """The command line that stops all services."""

    @abstractmethod
    def log_files(self, name: str) -> list[Path]:
        """Where a service's output is by now."""

    def stubborn_stop_command(self) -> Sequence[str]:
        """The command line that stops all services and has a limit of STOP_LIMIT_S on it."""
        return self.stop_command()

    def forget(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what this process holds of it."""

    def root(self) -> int:
        """The pid of the supervisor."""
        if self.process is None:
            raise BenchmarkError(f"{self.name} does not run")
        return self.process.pid

    def wait_steady(self) -> None:  # noqa: B027 - most have nothing
        """Wait for what this supervisor has beyond the children's own word that they began."""

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.services]

    def command(self, command: Sequence[str], *, patient: bool = True) -> None:
        """Run one of its commands to its end."""
        null = subprocess.DEVNULL
        done = subprocess.run(
            command, env=self.environ, cwd=self.folder, stdin=null, stdout=null, stderr=subprocess.PIPE, check=False
        )
        if done.returncode and not patient:
            raise BenchmarkError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")

    def run(self, command: Sequence[str]) -> None:
        """Start the supervisor itself."""
        with open(self.folder / "supervisor.out", "ab") as output:
            self.process = subprocess.Popen(
                command,
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for_path(self, path: Path) -> None:
        """Wait until a socket or folder is there."""
        until(lambda: os.path.exists(path), READY_S, f"{self.name}: {path.name}")


def apt_install(package: str) -> None:
    """Install a Debian package, if we are root on a Debian."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def absent(*commands: str) -> str:
    """Which of the commands is not on PATH, as a reason."""
    gone = [one for one in commands if shutil.which(one) is None]
    return f"not installed: {', '.join(gone)}" if gone else ""
