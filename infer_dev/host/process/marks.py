"""The marks by which a process can be recognised as an instance's, whatever it has become.

They stand in the environment that every instance is started with and that its descendants inherit, so
/proc/PID/environ tells (proc_pid_environ(5)), also of a process in a session of its own or without its parent.
"""

import os
from dataclasses import dataclass

from infer_dev.host.process.stat import users_of
from infer_dev.settings import (
    DIGEST_MARK_VAR,
    INSTANCE_MARK_VAR,
    RUNTIME_MARK_VAR,
    SOURCE_MARK_VAR,
    SPAWN_MARK_VAR,
)

READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a process is marked with.

    Attributes:
        instance: the name of the instance.
        runtime: the runtime directory of its daemon.
        source: the file that describes the instance.
        digest: of the command it was started with (`plan.model.Command.digest`).
        spawn: another one for each process that was started; its descendants share it.
    """

    instance: str
    runtime: str
    source: str
    digest: str
    spawn: str

    def variables(self) -> dict[str, str]:
        """As set in the environment."""
        return {
            INSTANCE_MARK_VAR: self.instance,
            RUNTIME_MARK_VAR: self.runtime,
            SOURCE_MARK_VAR: self.source,
            DIGEST_MARK_VAR: self.digest,
            SPAWN_MARK_VAR: self.spawn,
        }


def read_environ(pid: int) -> bytes:
    """The environment a process was started with: NUL-terminated `NAME=value`; b"" if it cannot be read."""
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    pieces = []
    try:
        while piece := os.read(fd, READ_BYTES):  # one read may give a part only
            pieces.append(piece)
        return b"".join(pieces)
    except OSError:
        return b""
    finally:
        os.close(fd)


def mark_of(pid: int) -> Mark | None:
    """The mark of a process, or None."""
    return _parse(read_environ(pid))


def find_marked(runtime: str) -> dict[str, list[int]]:
    """The living processes of a runtime directory's instances: instance → pids, ascending.

    Only those of this pid namespace: another container may use the same path for its own.
    """
    needle = f"{RUNTIME_MARK_VAR}={runtime}\0".encode(errors="surrogateescape")
    found: dict[str, list[int]] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        environ = read_environ(pid)
        if needle in environ and (mark := _parse(environ)) and mark.runtime == runtime and _is_in_our_namespace(pid):
            found.setdefault(mark.instance, []).append(pid)
    return found


def find_own(runtime: str) -> dict[str, list[int]]:
    """As `find_marked`, but only processes of this user alone, marked with what can be an instance's name.

    Anybody may start a process with any mark. Who goes on with a process, and starts it again when it ends, must do
    so for his own only: root would else start what another user wants it to.
    """
    own = {os.getuid()}
    named = {name: pids for name, pids in find_marked(runtime).items() if name and "/" not in name}
    found = {name: [pid for pid in pids if set(users_of(pid)) == own] for name, pids in named.items()}
    return {name: pids for name, pids in found.items() if pids}


def _parse(environ: bytes) -> Mark | None:
    if INSTANCE_MARK_VAR.encode() not in environ:
        return None
    values = dict(item.partition("=")[::2] for item in environ.decode(errors="surrogateescape").split("\0") if item)
    try:
        return Mark(
            instance=values[INSTANCE_MARK_VAR],
            runtime=values[RUNTIME_MARK_VAR],
            source=values.get(SOURCE_MARK_VAR, ""),
            digest=values.get(DIGEST_MARK_VAR, ""),
            spawn=values.get(SPAWN_MARK_VAR, ""),
        )
    except KeyError:
        return None


def _is_in_our_namespace(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return False
