import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from infer_dev.host.process.launch import launch, launch_by_subprocess
from tests.conftest import eventually

Launch = Callable[[Sequence[str], Mapping[str, str], str, int], int]


@pytest.fixture(params=[launch, launch_by_subprocess])
def start(request: pytest.FixtureRequest) -> Launch:
    """Both ways: which one is taken depends on the version of Python."""
    found: Launch = request.param
    return found


@pytest.fixture
def output(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield fd
    os.close(fd)


def children_of_this_process() -> set[str]:
    """Their pids, with those that have ended and were not reaped."""
    return {pid for tasks in Path("/proc/self/task").iterdir() for pid in (tasks / "children").read_text().split()}


def text(tmp_path: Path) -> str:
    return (tmp_path / "out").read_text()


def test_program_gets_its_arguments_environment_and_folder_and_nothing_else(
    start: Launch, output: int, tmp_path: Path
) -> None:
    code = "import os, sys; print(ascii((sys.argv[1:], dict(os.environ), os.getcwd())))"
    given, env = ["", "a b", "ü\udcff"], {"A": "", "B": "c=d\ne", "LC_ALL": "C.UTF-8"}
    os.waitpid(start([sys.executable, "-I", "-X", "utf8", "-c", code, *given], env, str(tmp_path), output), 0)
    assert text(tmp_path) == f"{(given, env, str(tmp_path))!a}\n"


def test_program_may_have_no_environment(start: Launch, output: int, tmp_path: Path) -> None:
    os.waitpid(start(["/usr/bin/env"], {}, "/", output), 0)
    assert text(tmp_path) == ""


def test_program_leads_a_session_with_the_three_descriptors_alone(start: Launch, output: int, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    pid = start(["/bin/sleep", "60"], {}, "/", output)
    try:
        assert os.getsid(pid) == os.getpgid(pid) == pid
        found = {int(one): os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")}
        out = str(tmp_path / "out")
        assert found == {0: "/dev/null", 1: out, 2: out}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def test_signals_that_python_ignores_end_the_program(start: Launch, output: int) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        pid = start(["/bin/sleep", "60"], {}, "/", output)
        os.kill(pid, number)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -number


@pytest.mark.parametrize(
    ("asked", "culprit", "kind"),
    [
        (("/no/such/program", "/"), "/no/such/program", FileNotFoundError),
        (("/etc/passwd", "/"), "/etc/passwd", PermissionError),
        (("/bin/true", "/no/such/folder"), "/no/such/folder", FileNotFoundError),
        (("/bin/true", "/etc/passwd"), "/etc/passwd", NotADirectoryError),
    ],
)
def test_what_is_not_to_be_had_is_named_and_nothing_is_left(
    start: Launch, output: int, asked: tuple[str, str], culprit: str, kind: type[OSError]
) -> None:
    program, folder = asked
    before = set(os.listdir("/proc/self/fd"))
    children = children_of_this_process()
    with pytest.raises(kind) as caught:
        start([program], {}, folder, output)
    assert caught.value.filename == culprit
    assert caught.value.strerror
    assert set(os.listdir("/proc/self/fd")) == before
    assert children_of_this_process() == children


def test_argument_that_is_too_long_is_told(start: Launch, output: int) -> None:
    with pytest.raises(OSError, match="Argument list too long"):
        start(["/bin/true", "x" * 200_000], {}, "/", output)


@pytest.mark.parametrize(("argv", "env"), [(["/bin/true", "a\0b"], {}), (["/bin/true"], {"A": "\0"})])
def test_nul_is_refused(start: Launch, output: int, argv: list[str], env: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"NUL|null"):
        start(argv, env, "/", output)


def test_variable_with_a_sign_of_equality_in_its_name_is_refused(start: Launch, output: int) -> None:
    with pytest.raises(ValueError, match=r"variable"):
        start(["/bin/true"], {"A=": "b"}, "/", output)


def test_program_has_its_own_three_where_ours_are_closed(output: int, tmp_path: Path) -> None:
    code = (
        "import os; from infer_dev.host.process.launch import launch;"
        f"fd = os.open({str(tmp_path / 'out')!r}, os.O_WRONLY | os.O_APPEND);"
        "[os.close(one) for one in (0, 1, 2)];"
        "os.waitpid(launch(['/bin/sh', '-c', 'echo out; echo err >&2; cat'], {}, '/', fd), 0)"
    )
    here = str(Path(__file__).parents[2])
    os.waitpid(launch([sys.executable, "-c", code], {"PYTHONPATH": here}, here, output), 0)
    eventually(lambda: text(tmp_path) == "out\nerr\n")
