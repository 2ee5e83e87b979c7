"""The child all supervisors get: compiled where there is a C compiler, else a script."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stage import BenchmarkError

HERE = Path(__file__).parent
LINES = 200_000
LINE_BYTES = 100


@dataclass(frozen=True, slots=True)
class Service:
    """One child as a supervisor is told to run it.

    Attributes:
        name: unique within a supervisor.
        command: absolute path of the child.
        port: where it serves.
        births: the file it tells its start in.
        lines: how many it writes to stdout first.
        stubborn: it ignores TERM.
    """

    name: str
    command: str
    port: int
    births: Path
    lines: int = 0
    stubborn: bool = False

    @property
    def extra_args(self) -> list[str]:
        """All arguments but the port's."""
        args = ["--births", str(self.births), "--name", self.name]
        args += ["--lines", str(self.lines)] if self.lines else []
        return [*args, "--ignore-term"] if self.stubborn else args

    @property
    def argv(self) -> list[str]:
        return [self.command, *self.extra_args, "--port", str(self.port)]


def build(folder: Path) -> str:
    """The path of the child, made in `folder`."""
    target = folder / "child"
    if compiler := shutil.which("cc"):
        made = subprocess.run(
            [compiler, "-O2", "-o", str(target), str(HERE / "child.c")], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise BenchmarkError(f"cannot compile the child: {made.stderr}")
    else:
        shutil.copy(HERE / "child_script.py", target)
        target.chmod(0o755)
    return str(target)
