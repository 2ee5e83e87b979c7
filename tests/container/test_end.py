"""How a container ends: by its command, by `docker stop`, and what is reaped meanwhile."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.conftest import eventually
from tests.parts.container import Stack, docker, ok
from tests.parts.engine import HERE

ON = {"AUTO_INFER_LLAMA_CPP_ON_BOOT": "1", "AUTO_INFER_LLAMA_CPP_CONFIG": "/model-configs/demo.toml"}
IGNORES_TERM = "trap '' TERM; while :; do sleep 1; done"
ORPHANS = 1000


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_status_of_the_command_is_the_container_s(stack: Stack, command: str, status: int) -> None:
    box = stack.run("sh", "-c", command)
    assert ok(docker("wait", box.name)) == str(status)


def test_stop_ends_instances_in_order_though_the_command_ignores_term(serving: Stack) -> None:
    box = serving.run("sh", "-c", IGNORES_TERM, passed=ON, env={"INFER_DEV_STOP_GRACE_S": "4"})
    box.wait_until_ready("alpha", "beta")
    ok(docker("stop", "-t", "50", box.name))
    assert box.inspect("{{.State.ExitCode}}") == "137"  # the command's: boot had to kill it; Docker had not
    assert box.inspect("{{.State.OOMKilled}}") == "false"
    logs = box.logs()
    for name in ("alpha", "beta"):
        assert re.search(rf"instance={name} stopping -> stopped", logs), logs
    assert "SIGKILL" not in "".join(line for line in logs.splitlines(keepends=True) if "instance=" in line)
    assert "everything has ended, the command by SIGKILL; exit status 137" in logs.splitlines()[-1], logs


def test_stop_of_a_container_without_command_is_clean(serving: Stack) -> None:
    box = serving.plain()
    eventually(lambda: box.exec("infer-dev", "status").returncode == 0)
    ok(docker("stop", "-t", "50", box.name))
    assert box.inspect("{{.State.ExitCode}}") == "0"
    assert "everything has ended in order; exit status 0" in box.logs().splitlines()[-1]


def test_orphans_are_reaped(stack: Stack) -> None:
    box = stack.run("sleep", "infinity")
    script = f"import os\nfor _ in range({ORPHANS}):\n  if os.fork() == 0: os._exit(0)\nos._exit(0)"
    ok(box.exec("python3", "-c", f"import os\nif os.fork() == 0:\n  os.setsid()\n  exec({script!r})\nos._exit(0)"))
    eventually(lambda: "Z" not in ok(box.exec("ps", "-eo", "stat=")))


class Terminal:
    """A person in front of `docker compose run stage-2 bash`."""

    def __init__(self, stack: Stack, *command: str) -> None:
        self._name = f"{stack.project}-tty"
        stack.started.append(self._name)
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "docker", "compose", "run", "--name", self._name, "stage-2", *command],
            cwd=HERE,
            env=stack.environ | {"TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._seen = ""

    def types(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def sees(self, text: str) -> None:
        """Wait for a text; what came before it is forgotten."""
        deadline = time.monotonic() + 60
        while text not in self._seen:
            assert time.monotonic() < deadline, f"{text!r} did not appear: {self._seen!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self._seen += os.read(self._ours, 65536).decode(errors="replace")
                except OSError:
                    pytest.fail(f"the terminal was closed: {self._seen!r}")
        self._seen = self._seen.partition(text)[2]

    def leaves(self) -> None:
        """Close the window."""
        os.close(self._ours)
        self.process.kill()
        self.process.wait()

    def resizes(self, rows: int, columns: int) -> None:
        """Change the window's size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@pytest.fixture
def person(stack: Stack) -> Iterator[Terminal]:
    one = Terminal(stack, "bash", "--norc")
    yield one
    one.leaves()


def test_shell_on_a_terminal_has_job_control_and_the_window_s_size(person: Terminal) -> None:
    person.sees("# ")
    person.types("sh -c 'echo up-$((1 + 1)); exec sed -u s/^/got-/'\n")
    person.sees("up-2")
    person.types("this\n")
    person.sees("got-this")
    person.types("\x1a")  # Ctrl-Z
    person.sees("Stopped")
    person.types("fg\n")
    person.types("that\n")
    person.sees("got-that")
    person.types("\x03")  # Ctrl-C
    person.sees("# ")
    person.types("echo it-was-$?\n")
    person.sees("it-was-130")
    person.resizes(41, 133)
    person.types("until [ \"$(stty size)\" = '41 133' ]; do sleep 0.1; done; echo size-$((40 + 2))\n")
    person.sees("size-42")
    person.types("exit 5\n")
    assert person.process.wait(60) == 5
