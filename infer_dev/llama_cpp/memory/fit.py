"""What `--fit` makes of an instance that does not fit: a smaller context first, then fewer layers on GPUs.

Source: common/fit.cpp. Only what was not set is lowered, until each GPU keeps its margin; without any GPU the context
is, by the host's memory. The real one measures candidates and may place parts of layers; this is close, not the same.
"""

from collections.abc import Sequence
from dataclasses import replace

from infer_dev.llama_cpp.memory.cache import CELLS, cells_of
from infer_dev.llama_cpp.memory.estimate import Estimate, Load, as_told, with_context


def estimate(load: Load, room: Sequence[int]) -> Estimate:
    """What `load` takes as llama-server would lay it out, lowered to fit where it does that by itself.

    Args:
        load: what is loaded.
        room: free bytes of each visible GPU; () without any.
    """
    told = as_told(load, room)
    settings = load.model.settings
    if not settings.fits or not any(use.total for use in told.gpus) or _fits(told, load, room):
        return told
    found = told
    lowered = 0
    if not settings.context_tokens and not settings.per_slot_tokens:
        load, found = _lower_context(load, room, told)
        lowered = told.context_tokens if found.context_tokens < told.context_tokens else 0
    if settings.gpu_layers is None and not settings.tensor_split and not _fits(found, load, room):
        found = _lower_layers(load, room)
    if settings.gpu_layers is not None and not _fits(found, load, room):
        return told  # it gives up and changes nothing
    return replace(found, fitted_context=lowered, fitted_layers=found.gpu_layers < told.gpu_layers)


def _lower_context(load: Load, room: Sequence[int], told: Estimate) -> tuple[Load, Estimate]:
    """The greatest context that fits, or the least that is allowed."""
    settings = load.model.settings
    streams = cells_of(load.model.shape, settings).streams
    step = CELLS * streams
    least = min(settings.fit_context_tokens * streams, told.context_tokens)
    low, high = 0, max(0, (told.context_tokens - least) // step)
    while low < high:
        middle = (low + high + 1) // 2
        tried = with_context(load, least + middle * step)
        if _fits(as_told(tried, room), tried, room):
            low = middle
        else:
            high = middle - 1
    chosen = with_context(load, least + low * step)
    return chosen, as_told(chosen, room)


def _lower_layers(load: Load, room: Sequence[int]) -> Estimate:
    """As many layers on GPUs as fit, perhaps none."""
    low, high = 0, as_told(load, room).gpu_layers
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(as_told(load, room, middle), load, room):
            low = middle
        else:
            high = middle - 1
    return as_told(load, room, low)


def _fits(found: Estimate, load: Load, room: Sequence[int]) -> bool:
    margins = load.model.settings.fit_margins_bytes
    return all(
        not use.total or use.total + margins[min(gpu, len(margins) - 1)] <= free
        for gpu, (use, free) in enumerate(zip(found.gpus, room, strict=True))
    )
