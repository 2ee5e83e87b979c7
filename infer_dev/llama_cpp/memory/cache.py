"""The KV cache and the states of recurrent layers, in bytes.

Sources: src/llama-context.cpp (how the context is rounded), src/llama-kv-cache.cpp, src/llama-kv-cache-iswa.cpp,
src/llama-memory-recurrent.cpp, src/llama-hparams.cpp.
"""

from dataclasses import dataclass

from infer_dev.llama_cpp.memory.settings import ROW_BYTES, Settings
from infer_dev.llama_cpp.memory.shape import Layer, Shape

CELLS = 256
"""Contexts are rounded up to it."""
STATE_BYTES = 4  # states are f32


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """How large the cache is in tokens.

    Attributes:
        context: of all slots together.
        each: of one stream.
        window: of one stream of a layer with a window.
        streams: caches side by side.
    """

    context: int
    each: int
    window: int
    streams: int


def cells_of(shape: Shape, settings: Settings) -> Cells:
    """The cache's measures as llama-server rounds them."""
    wanted = settings.context_tokens
    if not wanted and settings.per_slot_tokens:
        wanted = settings.per_slot_tokens * settings.slots
    context = _round_up(wanted or shape.context_tokens or 4096)
    streams = 1 if settings.is_unified else settings.slots
    each = context if settings.is_unified else _round_up(max(1, context // settings.slots))
    seen = shape.window_tokens * (settings.slots if settings.is_unified else 1)
    window = each if settings.full_window else _round_up(min(each, seen + tokens_at_once(settings, context)))
    return Cells(context=each * streams, each=each, window=window, streams=streams)


def tokens_at_once(settings: Settings, context: int) -> int:
    """Tokens computed at once: the physical batch, which neither the logical one nor the context may fall below."""
    return min(settings.ubatch, settings.batch, context)


def cache_bytes(layer: Layer, shape: Shape, settings: Settings, cells: Cells) -> int:
    """What is kept for one layer: its keys and values, its state, or both."""
    total = layer.state * STATE_BYTES * settings.slots
    if layer.has_cache:
        tokens = (cells.window if layer.is_window else cells.each) * cells.streams
        values = layer.heads_kv * layer.value_length
        if not settings.flash and values:  # values stand transposed, and all layers' are as wide as the widest's
            values = max(one.heads_kv * one.value_length for one in shape.layers)
        total += tokens * _row_bytes(settings.type_k, layer.heads_kv * layer.key_length)
        total += tokens * _row_bytes(settings.type_v, values)
    return total


def _row_bytes(kind: str, numbers: int) -> int:
    size, block = ROW_BYTES[kind]
    return numbers * size // block


def _round_up(tokens: int) -> int:
    return -(-tokens // CELLS) * CELLS
