"""What `--fit` makes of an instance that does not fit: a smaller context first, then fewer layers on GPUs.

Source: common/fit.cpp. Only what was not set is lowered, until each GPU keeps its margin; without any GPU the context
is, by all the memory of the host. The real one measures candidates and may place parts of layers, so this is only
close.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from infer_dev.llama_cpp.memory.cache import CELLS, cells_of
from infer_dev.llama_cpp.memory.estimate import Estimate, Load, as_told, with_context


@dataclass(frozen=True, slots=True)
class _Target:
    """What has to be kept to: free bytes of each visible GPU; all bytes of the host, which count without any."""

    room: Sequence[int]
    host_bytes: int | None
    margins: Sequence[int]

    def spaces(self, found: Estimate) -> Iterator[tuple[int, int]]:
        """Need and limit of each device that counts."""
        for gpu, (use, free) in enumerate(zip(found.gpus, self.room, strict=True)):
            if use.total:
                yield use.total, free - self.margins[min(gpu, len(self.margins) - 1)]
        if not self.room and self.host_bytes is not None:
            yield found.host.total, self.host_bytes - self.margins[0]

    def is_met(self, found: Estimate) -> bool:
        return all(need <= limit for need, limit in self.spaces(found))


def estimate(load: Load, room: Sequence[int], host_bytes: int | None = None) -> Estimate:
    """What `load` takes as llama-server would lay it out, lowered to fit where it does that by itself.

    Args:
        load: what is loaded.
        room: free bytes of each visible GPU; () without any.
        host_bytes: all the memory this host has, whatever a container may use of it; None: not known.
    """
    told = as_told(load, room)
    settings = load.model.settings
    target = _Target(room, host_bytes, settings.fit_margins_bytes)
    if not settings.fits or target.is_met(told):
        return told
    found = told
    if not settings.context_tokens and not settings.per_slot_tokens:
        load, found = _lower_context(load, target, told)
    if settings.gpu_layers is None and not settings.tensor_split and not target.is_met(found):
        found = _lower_layers(load, target)
    return replace(
        found,
        fitted_context=told.context_tokens if found.context_tokens < told.context_tokens else 0,
        fitted_layers=found.gpu_layers < told.gpu_layers,
    )


def _lower_context(load: Load, target: _Target, told: Estimate) -> tuple[Load, Estimate]:
    """The greatest context that fits, or the least that is allowed. Memory grows evenly with it, or nearly so."""
    settings = load.model.settings
    streams = cells_of(load.model.shape, settings).streams
    step = CELLS * streams
    least = min(settings.fit_context_tokens * streams, told.context_tokens)
    chosen = with_context(load, least)
    found = as_told(chosen, target.room)
    if not target.is_met(found):
        return chosen, found
    share = min(
        (limit - small) / (large - small)
        for (small, limit), (large, _) in zip(target.spaces(found), target.spaces(told), strict=True)
        if large > small
    )
    steps = int((told.context_tokens - least) * min(1.0, share)) // step
    while steps > 0:
        tried = with_context(load, least + steps * step)
        larger = as_told(tried, target.room)
        if target.is_met(larger):
            return tried, larger
        steps = min(steps - 1, steps * 15 // 16)  # a window's cache stops growing, so the line has a bend
    return chosen, found


def _lower_layers(load: Load, target: _Target) -> Estimate:
    """As many layers on GPUs as fit, perhaps none."""
    low, high = 0, as_told(load, target.room).gpu_layers
    while low < high:
        middle = (low + high + 1) // 2
        if target.is_met(as_told(load, target.room, middle)):
            low = middle
        else:
            high = middle - 1
    return as_told(load, target.room, low)
