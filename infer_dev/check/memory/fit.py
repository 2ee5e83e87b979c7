"""Where a model fits by itself: on which GPU, on all of them together, or in ordinary memory."""

from collections.abc import Callable, Sequence

from infer_dev.check.memory.plan import GpuRoom, Need, plan_memory
from infer_dev.host.memory.left import HostMemory
from infer_dev.llama_cpp.gguf.model import Model, ModelKind
from infer_dev.llama_cpp.memory.estimate import Load, Part
from infer_dev.llama_cpp.memory.settings import settings_of
from infer_dev.llama_cpp.memory.shape import shape_of
from infer_dev.llama_cpp.memory.weights import HOST, weights_of

CONTEXT_TOKENS = 8192
"""What is reckoned with, or the context it was trained for if that is less."""


def fits_on(rooms: Sequence[GpuRoom], host: HostMemory | None) -> Callable[[Model], str]:
    """A function that tells where a model fits now, with all its layers and a context of `CONTEXT_TOKENS`.

    Args:
        rooms: the GPUs.
        host: ordinary memory; None: it cannot be told.

    Returns:
        model → "GPU 0, 1" (each alone), "all GPUs", "host", "no", or "-" for what is no model or cannot be told.
    """

    def told(model: Model) -> str:
        load = _load(model, on_gpu=bool(rooms))
        if load is None:
            return "-"
        alone = [str(room.index) for room in rooms if _fits(load, [room], host)]
        if alone:
            return f"GPU {', '.join(alone)}"
        if len(rooms) > 1 and _fits(load, rooms, host):
            return "all GPUs"
        load = _load(model, on_gpu=False)
        if host is None or load is None:
            return "-"
        return "host" if _fits(load, [], host) else "no"

    return told


def _load(model: Model, *, on_gpu: bool) -> Load | None:
    shape = shape_of(model) if model.kind is ModelKind.MODEL else None
    if shape is None:
        return None
    tokens = min(model.context_tokens or CONTEXT_TOKENS, CONTEXT_TOKENS)
    options = {"ctx-size": str(tokens), "gpu-layers": "all" if on_gpu else "0", "fit": "off"}
    return Load(model=Part(shape=shape, weights=weights_of(model.tensors), settings=settings_of(options)))


def _fits(load: Load, rooms: Sequence[GpuRoom], host: HostMemory | None) -> bool:
    gpus = tuple(str(room.index) for room in rooms)
    need = Need(name="it", load=load, gpus=gpus, starts_itself=True)
    (planned,) = plan_memory([need], rooms, host).planned
    return all(
        part.use.total <= part.free_bytes
        for part in planned.portions
        if part.device != HOST or (host is not None and not rooms)
    )
