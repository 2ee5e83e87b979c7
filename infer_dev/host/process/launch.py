"""A program started as `subprocess` starts it, without the objects that come with one.

A daemon starts all of its instances in one go, and `subprocess.Popen` takes three times the CPU time of the one call
that it makes: `_posixsubprocess.fork_exec`, which is private to Python. So it is made here where its arguments are
known; `launch_by_subprocess` is for every other version.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

ANSWER_BYTES = 4096
STDERR = 2
NONE = -1


def launch(argv: Sequence[str], env: Mapping[str, str], cwd: str, output_fd: int) -> int:
    """Start `argv` in its own session: stdin from /dev/null, stdout and stderr to `output_fd`, no other descriptor.

    Args:
        argv: the first is a path: PATH is not searched.
        env: all of its environment.
        cwd: its working folder.
        output_fd: stays open here.

    Returns:
        Its pid, for the caller alone to wait for.

    Raises:
        OSError: `filename` is the folder or the program, whichever is not to be had; or a resource is not.
        ValueError: what a program cannot be given: a NUL, or "=" in a variable's name.
    """
    if sys.version_info >= (3, 14):  # its `fork_exec` takes other arguments
        return launch_by_subprocess(argv, env, cwd, output_fd)
    if any("=" in name for name in env):
        raise ValueError("cannot pass a variable with = in its name")
    arguments = _encoded(argv)
    variables = _encoded([f"{name}={value}" for name, value in env.items()])
    heard, told = os.pipe()  # tells what kept the program from being executed; closes with the exec
    try:
        try:
            if told <= STDERR:  # whoever started us closed one of the three, and the program shall have its own
                return launch_by_subprocess(argv, env, cwd, output_fd)
            null = os.open(os.devnull, os.O_RDONLY)
            try:
                pid = _fork_exec(arguments, variables, cwd, _Descriptors(null, output_fd, heard, told))
            finally:
                os.close(null)
        finally:
            os.close(told)
        answer = b"".join(iter(lambda: os.read(heard, ANSWER_BYTES), b""))
    finally:
        os.close(heard)
    if answer:
        os.waitpid(pid, 0)
        raise _error(answer, argv[0], cwd)
    return pid


def launch_by_subprocess(argv: Sequence[str], env: Mapping[str, str], cwd: str, output_fd: int) -> int:
    """As `launch`, by what Python's documentation promises."""
    null = subprocess.DEVNULL
    popen = subprocess.Popen(
        list(argv), env=dict(env), cwd=cwd, stdin=null, stdout=output_fd, stderr=output_fd, start_new_session=True
    )
    popen.returncode = 0  # or Popen, too, would wait for this pid when it is collected
    return popen.pid


class _Descriptors(NamedTuple):
    null: int
    output: int
    heard: int
    told: int


def _fork_exec(argv: Sequence[bytes], env: Sequence[bytes], cwd: str, fds: _Descriptors) -> int:
    from _posixsubprocess import fork_exec  # noqa: PLC0415 - only where its arguments are known

    return fork_exec(
        argv,
        [argv[0]],
        True,  # close all other descriptors
        (fds.told,),
        cwd,
        env,
        fds.null,
        NONE,
        NONE,
        fds.output,
        NONE,
        fds.output,
        fds.heard,
        fds.told,
        True,  # what Python ignores (SIGPIPE, SIGXFSZ) ends it, as every program expects
        True,  # a session of its own
        NONE,
        None,
        None,
        None,
        NONE,
        None,  # type: ignore[arg-type] # nothing to call before: `subprocess` passes it so
        True,  # by vfork(2): no copy of this process
    )


def _encoded(given: Iterable[str]) -> list[bytes]:
    """Each as bytes, all encoded at once."""
    texts = list(given)
    found = os.fsencode("\0".join(texts)).split(b"\0")
    if len(found) != max(1, len(texts)):
        raise ValueError("cannot pass a NUL")
    return found if texts else []


def _error(answer: bytes, program: str, cwd: str) -> OSError:
    """From what the child tells: "OSError:ERRNO:STEP", the errno as a hexadecimal number."""
    _, number, step = answer.split(b":", 2)
    code = int(number, 16)
    return OSError(code, os.strerror(code), cwd if step.startswith(b"noexec") else program)
