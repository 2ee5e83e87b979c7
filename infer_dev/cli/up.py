"""`infer-dev up` and `down`."""

import os
import select
import sys
import threading
import time

from infer_dev.api.client import DaemonClient, caller_request, instance_target, logs_target
from infer_dev.cli.launch import client, client_of_running_daemon
from infer_dev.cli.paths import config_path
from infer_dev.cli.progress import follow_states, wait_until_settled
from infer_dev.cli.text import sanitized
from infer_dev.errors import EXIT_FAILED, EXIT_OK, InferDevError, UnavailableError

EXIT_WAIT_S = 10.0


def up(config: str | None = None, *, wait: bool = True, timeout_s: float | None = None) -> int:
    """Reconcile with a file; wait until every instance that starts by itself is ready or has failed."""
    path = config_path(config)
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    daemon, is_new = client_of_running_daemon()
    try:
        result = daemon.post("/up", caller_request(path, os.environ))
    except InferDevError:
        if is_new:
            _leave(daemon)
        raise
    if not result["enabled"]:
        print(f"{path}: master.enable is false: nothing is started")
        if is_new:
            _leave(daemon)
        return EXIT_OK
    if not wait:
        return EXIT_OK
    status = wait_until_settled(daemon, result["states"], after_id=result["last_id"], deadline=deadline)
    if result["attached"]:
        return _stay_with(daemon, result["attached"]) or status
    return status


def down(config: str | None = None) -> int:
    """Stop the instances of one file, or all and the daemon with them."""
    daemon = client()
    try:
        answer = daemon.post("/down", {"config": os.path.abspath(config) if config else None})
    except UnavailableError:
        if daemon.is_alive():
            raise
        print("nothing is up", file=sys.stderr)
        return EXIT_OK
    if answer["left"]:
        _wait_for_end(answer["pid"])
    for name in answer["names"]:
        print(f"{name} stopped")
    return EXIT_OK


def _leave(daemon: DaemonClient) -> None:
    """Let a daemon go that was started for nothing."""
    _wait_for_end(daemon.post("/down")["pid"])


def _wait_for_end(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], EXIT_WAIT_S)
    finally:
        os.close(fd)


def _stay_with(daemon: DaemonClient, names: list[str]) -> int:
    """Print the logs of instances until they end. Ctrl-C stops them; a second one leaves them to the daemon."""
    latest = daemon.get("/status?name=" + ",".join(names))
    ending = {one["name"]: one["state"] for one in latest["instances"]}
    for name in names:
        threading.Thread(target=_print_log, args=(daemon, name), daemon=True).start()
    try:
        for name in names:
            print(f"{name} is attached: its log follows, Ctrl-C stops it", file=sys.stderr, flush=True)
        last = follow_states(daemon, ending, until=("stopped", "failed", "disabled"))
    except KeyboardInterrupt:
        for name in names:
            daemon.post(instance_target(name, "stop"))
        return EXIT_OK
    return EXIT_FAILED if "failed" in last.values() else EXIT_OK


def _print_log(daemon: DaemonClient, name: str) -> None:
    try:
        for piece in daemon.stream(logs_target(name, tail=0, follow=True)):
            sys.stdout.write(sanitized(piece.decode(errors="replace"), terminal=sys.stdout.isatty()))
            sys.stdout.flush()
    except InferDevError:
        return  # the daemon went away; the main thread tells
