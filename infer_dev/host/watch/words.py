"""What boot and the daemon say to each other: one short ASCII line per packet of a SOCK_SEQPACKET pair.

A module of its own, without imports, because boot must stay small.
"""

BEAT = b"beat\n"  # daemon → boot, once a second: its event loop turns
LEAVING = b"leaving\n"  # daemon → boot: it is about to end by itself
EXIT = "exit"  # boot → daemon: an orphan has ended
KEPT_EXITS = 512
MAX_PACKET_BYTES = 128


def exit_packet(pid: int, start_time: int, code: int) -> bytes:
    """`exit PID START_TIME CODE`: field 22 of /proc/PID/stat (0: not known), and the code `subprocess` would give."""
    return f"{EXIT} {pid} {start_time} {code}\n".encode("ascii")


def read_exit(packet: bytes) -> tuple[int, int, int] | None:
    """Pid, start time and code of an `exit` packet; None if it is something else."""
    match packet.decode("ascii", errors="replace").split():
        case [word, *numbers] if word == EXIT:
            try:
                pid, start_time, code = map(int, numbers)
            except ValueError:
                return None
            return pid, start_time, code
    return None
