"""Compute buffers: what a graph's intermediate results need at their peak.

ggml's allocator reuses memory as tensors die (ggml/src/ggml-alloc.c), so the peak is that of the widest place:
attention, the feed-forward network, a recurrent layer's scan, or the logits. The counts of tensors alive there were
taken from what llama-server reports for models whose widths were changed one at a time (docs/memory.md).
"""

from infer_dev.llama_cpp.memory.cache import Cells, tokens_at_once
from infer_dev.llama_cpp.memory.settings import Settings
from infer_dev.llama_cpp.memory.shape import Shape

NUMBER_BYTES = 4
HIDDEN_ALIVE = 5
"""Hidden states alive at the peak: two inputs, the residual, the normalised and the next one."""
GATED_ALIVE = 3
SCAN_ALIVE = 5
CONVOLUTION_ALIVE = 9


def input_bytes(shape: Shape, settings: Settings, cells: Cells) -> int:
    """What is filled in on the host and copied to each device: embeddings and attention masks."""
    tokens = tokens_at_once(settings, cells.context)
    return tokens * shape.embedding * NUMBER_BYTES + _mask_bytes(shape, settings, cells, is_input=True)


def compute_bytes(shape: Shape, settings: Settings, cells: Cells, *, on_gpu: bool) -> int:
    """The peak on a device that computes some of the layers.

    On a GPU the masks are copies, which are gone when the logits are computed; on the host they are the graph's own
    inputs and stay.
    """
    tokens = tokens_at_once(settings, cells.context)
    hidden = HIDDEN_ALIVE * shape.embedding
    peak = tokens * max(hidden + shape.query_width, hidden + _feed_forward(shape)) * NUMBER_BYTES
    if not settings.flash:
        peak = max(peak, _without_flash(shape, cells, tokens))
    peak = max(peak, _scan(shape, settings, tokens))
    masks = _mask_bytes(shape, settings, cells, is_input=False)
    logits = _logits(shape, settings, tokens)
    return max(peak + masks, logits if on_gpu else logits + masks)


def output_rows(shape: Shape, settings: Settings, tokens: int) -> int:
    """For how many tokens of a batch logits are reserved."""
    pools = shape.pools if settings.pools is None else settings.pools
    if settings.outputs_for_all or (settings.embeds and not pools):
        return tokens
    return min(tokens, settings.slots)


def output_bytes(shape: Shape, settings: Settings) -> int:
    """The results of a batch on the host: logits, and embeddings if it serves them."""
    return settings.slots * (shape.vocabulary + (shape.embedding if settings.embeds else 0)) * NUMBER_BYTES


def _feed_forward(shape: Shape) -> int:
    """Numbers for a token: gate, values and their product; of experts those of all that are used."""
    alive = GATED_ALIVE if shape.is_gated else 1
    dense = alive * max(layer.feed_forward for layer in shape.layers) if shape.has_dense else 0
    between = shape.experts_used * shape.expert_feed_forward
    after = shape.experts_used * shape.embedding
    if after <= 2 * between:  # the results fit into what gate and values leave
        return max(dense, alive * between)
    return max(dense, after + alive * between if between > shape.embedding else max(after, alive * between))


def _without_flash(shape: Shape, cells: Cells, tokens: int) -> int:
    """Without flash attention the scores of all heads stand in memory."""
    widest = 0
    for layer in shape.layers:
        seen = (cells.window if layer.is_window else cells.each) if shape.has_cache else tokens
        if layer.has_cache or not shape.has_cache:
            widest = max(widest, seen * layer.heads)
    if not widest:
        return 0
    return tokens * (widest + HIDDEN_ALIVE * shape.embedding + shape.query_width) * NUMBER_BYTES


def _scan(shape: Shape, settings: Settings, tokens: int) -> int:
    """A recurrent layer: its inner width for each token, and states of all sequences, old and new."""
    state = max(layer.state for layer in shape.layers) * settings.slots
    if not state:
        return 0
    if not shape.scan_parameters:
        return (tokens * CONVOLUTION_ALIVE * shape.scan_width + 2 * state) * NUMBER_BYTES
    both = shape.embedding + shape.scan_width
    before = tokens * SCAN_ALIVE * both + state
    after = tokens * ((SCAN_ALIVE - 1) * both + 3 * shape.scan_parameters) + 2 * state
    return max(before, after) * NUMBER_BYTES


def _logits(shape: Shape, settings: Settings, tokens: int) -> int:
    rows = output_rows(shape, settings, tokens)
    hidden = HIDDEN_ALIVE + 1 if settings.embeds else 1
    return (rows * shape.vocabulary + hidden * tokens * shape.embedding) * NUMBER_BYTES


def _mask_bytes(shape: Shape, settings: Settings, cells: Cells, *, is_input: bool) -> int:
    """One number for each token and each cell it may see: f16 with flash attention, else f32."""
    tokens = tokens_at_once(settings, cells.context)
    number = 2 if settings.flash else NUMBER_BYTES
    if settings.outputs_for_all and settings.flash:  # older servers fill in an f32 one and convert it
        number = NUMBER_BYTES if is_input else number + NUMBER_BYTES
    if not shape.has_cache:
        return tokens * tokens * number
    kinds = {layer.is_window for layer in shape.layers if layer.has_cache}
    return sum(tokens * (cells.window if is_window else cells.each) * number for is_window in kinds)
