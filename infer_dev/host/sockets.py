"""Who holds the other end of a local connection. Source: proc_net_tcp(5), proc_pid_fd(5), unix(7)."""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from infer_dev.settings import INSTANCE_MARK_VAR, RUNTIME_MARK_VAR

_UID, _INODE = 7, 9  # columns of /proc/net/tcp


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a connection: a TCP socket's inode and owner's uid, or a unix socket's listener."""

    inode: int = 0
    uid: int | None = None
    pid: int | None = None


def other_end(sock: socket.socket) -> End | None:
    """The end that `sock`, a connection within this host, leads to; None while nobody has accepted it."""
    if sock.family == socket.AF_UNIX:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return End(pid=pid, uid=uid) if pid > 0 else None
    there, here = sock.getpeername(), sock.getsockname()
    for table, row in _rows(there[0], there[1], here[0], here[1]):
        try:
            with open(table, "rb") as file:
                text = file.read()
        except OSError:
            continue
        at = text.find(row)
        if at >= 0:
            columns = text[text.rfind(b"\n", 0, at) + 1 : at + 300].split(b"\n", 1)[0].split()
            inode = int(columns[_INODE])
            return End(inode=inode, uid=int(columns[_UID])) if inode else None
    return None


def holds(pid: int, end: End) -> bool:
    """Whether the process has that end open; false also where this user may not look."""
    if end.pid is not None:
        return end.pid == pid
    wanted = f"socket:[{end.inode}]"
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(_link(f"/proc/{pid}/fd/{descriptor}") == wanted for descriptor in descriptors)


def holder(end: End) -> int | None:
    """A process that has that end open, among those this user may look into."""
    if end.pid is not None:
        return end.pid
    return next((int(name) for name in os.listdir("/proc") if name.isdigit() and holds(int(name), end)), None)


def is_kin(pid: int, leader: int) -> bool:
    """Whether `pid` is `leader`, of its session or group, or carries the same marks of an instance."""
    try:
        if pid == leader or leader in (os.getsid(pid), os.getpgid(pid)):
            return True
    except OSError:
        return False
    marks = _marks(leader)
    return bool(marks) and marks == _marks(pid)


def name_of(pid: int) -> str:
    """The short name of a process; "a program" if it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return "a program"


def uid_of(pid: int) -> int | None:
    """The user a process runs as."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _rows(there: str, there_port: int, here: str, here_port: int) -> Iterator[tuple[str, bytes]]:
    """Where the other end may be listed, and how: a server on [::] has its IPv4 connections in tcp6."""
    try:
        ends = [socket.inet_pton(socket.AF_INET, text) for text in (there, here)]
    except OSError:
        ends = [socket.inet_pton(socket.AF_INET6, text.partition("%")[0]) for text in (there, here)]
    else:
        yield "/proc/net/tcp", _row(ends, there_port, here_port)
        ends = [b"\0" * 10 + b"\xff\xff" + packed for packed in ends]
    yield "/proc/net/tcp6", _row(ends, there_port, here_port)


def _row(addresses: list[bytes], *ports: int) -> bytes:
    """`LOCAL:PORT REMOTE:PORT ` as the kernel prints it: 32-bit words in the host's byte order."""
    order = "<" if sys.byteorder == "little" else ">"
    shown = []
    for packed, port in zip(addresses, ports, strict=True):
        words = struct.unpack(f"{order}{len(packed) // 4}I", packed)
        shown.append("".join(f"{word:08X}" for word in words) + f":{port:04X}")
    return f": {shown[0]} {shown[1]} ".encode()


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _marks(pid: int) -> list[bytes]:
    """The variables that say which instance of which daemon a process is."""
    names = tuple(f"{name}=".encode() for name in (INSTANCE_MARK_VAR, RUNTIME_MARK_VAR))
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return sorted(entry for entry in file.read().split(b"\0") if entry.startswith(names))
    except OSError:
        return []
