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
    """The greatest context that fits, or the least that is allowed. Memory grows evenly with it, or nearly so."""
    settings = load.model.settings
    streams = cells_of(load.model.shape, settings).streams
    step = CELLS * streams
    least = min(settings.fit_context_tokens * streams, told.context_tokens)
    chosen = with_context(load, least)
    found = as_told(chosen, room)
    if not _fits(found, load, room):
        return chosen, found
    share = min(
        (free - _margin(load, gpu) - small.total) / (large.total - small.total)
        for gpu, (small, large, free) in enumerate(zip(found.gpus, told.gpus, room, strict=True))
        if large.total > small.total
    )
    steps = int((told.context_tokens - least) * min(1.0, share)) // step
    while steps > 0:
        tried = with_context(load, least + steps * step)
        larger = as_told(tried, room)
        if _fits(larger, load, room):
            return tried, larger
        steps = min(steps - 1, steps * 15 // 16)  # a window's cache stops growing, so the line has a bend
    return chosen, found


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
    return all(
        not use.total or use.total + _margin(load, gpu) <= free
        for gpu, (use, free) in enumerate(zip(found.gpus, room, strict=True))
    )


def _margin(load: Load, gpu: int) -> int:
    margins = load.model.settings.fit_margins_bytes
    return margins[min(gpu, len(margins) - 1)]
