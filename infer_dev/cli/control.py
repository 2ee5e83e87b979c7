"""`infer-dev start`, `stop`, `restart`."""

import threading

from infer_dev.api.client import DaemonClient, instance_target, status_target
from infer_dev.cli.launch import client
from infer_dev.cli.patience import telling
from infer_dev.cli.progress import deadline_of, wait_until_settled
from infer_dev.errors import EXIT_OK, InferDevError


def start(*names: str, wait: bool = True, timeout_s: float | None = None) -> int:
    """Start the named instances and wait until each is ready or has failed."""
    return _act(client(), names, "start", wait=wait, timeout_s=timeout_s)


def restart(*names: str, wait: bool = True, timeout_s: float | None = None) -> int:
    """Restart the named instances and wait until each is ready or has failed."""
    return _act(client(), names, "restart", wait=wait, timeout_s=timeout_s)


def stop(*names: str) -> int:
    """Stop the named instances, all at once; returns when they are at rest."""
    daemon = client()
    daemon.get(status_target(names))  # an unknown name stops nothing
    errors: list[InferDevError] = []

    def stop_one(name: str) -> None:
        try:
            daemon.post(instance_target(name, "stop"))
        except InferDevError as err:
            errors.append(err)

    threads = [threading.Thread(target=stop_one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    for name in names:
        print(f"{name} stopped")
    return EXIT_OK


def _act(daemon: DaemonClient, names: tuple[str, ...], action: str, *, wait: bool, timeout_s: float | None) -> int:
    deadline = deadline_of(timeout_s)
    states: dict[str, str] = {}
    first_id: int | None = None
    for name in names:
        answer = daemon.post(instance_target(name, action), when_slow=telling(daemon, action, name))
        states |= answer["states"]
        first_id = answer["last_id"] if first_id is None else first_id
    if not wait:
        return EXIT_OK
    return wait_until_settled(daemon, states, after_id=first_id or 0, deadline=deadline)
