"""Whether a model has room now: its files' size against the memory that is free, or becomes free by the switch."""

from collections.abc import Sequence

from infer_dev.dashboard.picture import Gpu, Instance, Json, Picture
from infer_dev.states import RUNNING

COMFORT = 0.85  # a context and buffers come on top of the weights
NO_GPUS = "none"


def leavers(picture: Picture, one: Json) -> list[Instance]:
    """Who has to stop for a model of `/models`: what runs in its group; without a group, on its port."""
    name, group, port = one["instance"], one.get("group"), one.get("port")
    found = []
    for other in picture.instances:
        shares = other.group == group if group else bool(port) and other.port == port
        if other.name != name and shares and other.state in RUNNING:
            found.append(other)
    return found


def verdict(picture: Picture, one: Json) -> str:
    """One or two words: "runs", "fits", "tight", "with RAM", "too large", "" where it cannot be told.

    The weights are what is known; `infer-dev check` knows contexts, too, and what each GPU has to hold.
    """
    here = picture.find(str(one["instance"]))
    if here is not None and here.state in RUNNING:
        return "runs"
    need = one.get("size_bytes")
    if not need:
        return ""
    gone = leavers(picture, one)
    gpus = _gpus_of(picture.gpus, here.gpu_ids if here else "")
    host = _host_room(picture, gone)
    if gpus:
        known = [gpu.free_bytes for gpu in gpus if gpu.free_bytes is not None]
        room = sum(known) + sum(gpu.held.get(other.name, 0) for gpu in gpus for other in gone)
        if known and need <= room:
            return "fits" if need <= room * COMFORT else "tight"
        if host is not None and need <= room + host:
            return "with RAM"
        return "too large" if known and host is not None else ""
    if host is None:
        return ""
    if need > host:
        return "too large"
    return "fits" if need <= host * COMFORT else "tight"


def _gpus_of(gpus: Sequence[Gpu], ids: str) -> list[Gpu]:
    if ids == NO_GPUS:
        return []
    named = {part.strip() for part in ids.split(",") if part.strip().isdigit()}
    return [gpu for gpu in gpus if not gpu.problem and (not named or str(gpu.index) in named)]


def _host_room(picture: Picture, gone: Sequence[Instance]) -> int | None:
    free = picture.host.get("memory_available_bytes")
    if free is None:
        return None
    most, now = picture.container.get("memory_max_bytes"), picture.container.get("memory_current_bytes")
    if most is not None and now is not None:
        free = min(free, most - now)
    return int(free) + sum(other.rss_bytes or 0 for other in gone)
