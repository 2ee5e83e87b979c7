"""A model's shape: the numbers of its metadata on which memory depends."""

from collections.abc import Iterator
from dataclasses import dataclass

from infer_dev.llama_cpp.gguf.header import Array
from infer_dev.llama_cpp.gguf.model import Model
from infer_dev.llama_cpp.memory import families

INTERVAL = 4  # llama.cpp's own `full_attention_interval`
TOKEN_SHIFTS = 2  # rwkv's
MOST_LAYERS = 512  # LLAMA_MAX_LAYERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One block.

    Attributes:
        heads: query heads.
        heads_kv: heads whose keys and values are kept.
        key_length: of one head, numbers.
        value_length: of one head; 0 where values are read from the keys' latent form (MLA).
        feed_forward: width; 0 if it has none.
        is_window: it attends to a window only.
        has_cache: keys and values are kept for it.
        state: numbers it keeps for each sequence whatever its length (Mamba, RWKV, short convolutions).
    """

    heads: int
    heads_kv: int
    key_length: int
    value_length: int
    feed_forward: int
    is_window: bool
    has_cache: bool
    state: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a model decides on memory.

    Attributes:
        architecture: as in the file.
        layers: those that are loaded, in order.
        spare_layers: further ones that only predict tokens ahead (MTP).
        embedding: width of the hidden state.
        vocabulary: tokens.
        context_tokens: what it was trained for.
        window_tokens: how far layers with a window see; 0: none.
        experts_used: at once; 0: no experts.
        expert_feed_forward: width of one expert.
        has_dense: some layer has a feed-forward network that is no expert.
        is_gated: the feed-forward network has a gate.
        query_width: of the widest layer, what the query takes for a token, numbers; with MLA its latent forms too.
        scan_width: of the widest layer with a state, what its inner width takes for a token, numbers.
        scan_parameters: what the scan's own parameters take for a token, numbers.
        has_cache: there is a cache at all.
        pools: the file asks for pooled output, as embedding models do.
        doubts: what could not be told.
    """

    architecture: str
    layers: tuple[Layer, ...]
    spare_layers: int
    embedding: int
    vocabulary: int
    context_tokens: int
    window_tokens: int
    experts_used: int
    expert_feed_forward: int
    has_dense: bool
    is_gated: bool
    query_width: int
    scan_width: int
    scan_parameters: int
    has_cache: bool
    pools: bool
    doubts: tuple[str, ...]


def shape_of(model: Model) -> Shape | None:
    """The shape, or None if the file does not give the numbers that every language model has."""
    read = _Reader(model)
    count, embedding = read.integer("block_count"), read.integer("embedding_length")
    if not 0 < count <= MOST_LAYERS or embedding <= 0:
        return None
    spare = min(read.integer("nextn_predict_layers"), count - 1)
    window, windowed = _windows(read, count)
    layers = tuple(_layers(read, windowed))
    name = model.architecture
    inner = read.integer("ssm.inner_size")
    conv = read.integer("shortconv.l_cache")
    parameters = read.integer("ssm.time_step_rank") + 2 * read.integer("ssm.state_size")
    return Shape(
        architecture=name,
        layers=layers[: count - spare],
        spare_layers=spare,
        embedding=embedding,
        vocabulary=model.vocabulary_tokens or 0,
        context_tokens=model.context_tokens or 0,
        window_tokens=window,
        experts_used=read.integer("expert_used_count"),
        expert_feed_forward=_expert_width(model, read),
        has_dense=any(one.name.endswith("ffn_up.weight") for one in model.tensors),
        is_gated=any("ffn_gate" in one.name for one in model.tensors) or _has_fused_gate(model, layers),
        query_width=max(_query_width(read, layer) for layer in layers),
        scan_width=inner + _group_width(read)
        if inner
        else (embedding if conv or read.integer("wkv.head_size") else 0),
        scan_parameters=parameters if inner else 0,
        has_cache=name not in families.WITHOUT_CACHE,
        pools=read.integer("pooling_type") > 0,
        doubts=tuple(_doubts(model)),
    )


class _Reader:
    """Numbers of the architecture's own keys."""

    def __init__(self, model: Model) -> None:
        self._metadata, self._prefix = model.metadata, model.architecture
        self.architecture = model.architecture

    def integer(self, key: str, default: int = 0) -> int:
        """A whole number, less than nothing counts as nothing; of an array the greatest."""
        value = self._metadata.get(f"{self._prefix}.{key}")
        if isinstance(value, Array):
            return max(self.array(key) or (default,))
        return max(0, int(value)) if isinstance(value, int) else default

    def of_layer(self, key: str, layer: int, default: int = 0) -> int:
        """A number that may be given for each layer."""
        listed = self.array(key)
        if listed is None:
            return self.integer(key, default)
        return listed[layer] if layer < len(listed) else default

    def array(self, key: str) -> tuple[int, ...] | None:
        """An array of whole numbers or truth values, if it is one and not empty."""
        value = self._metadata.get(f"{self._prefix}.{key}")
        if not isinstance(value, Array) or not value.items:
            return None
        return tuple(max(0, int(one)) for one in value.items if isinstance(one, int)) or None


def _windows(read: _Reader, count: int) -> tuple[int, tuple[bool, ...]]:
    """The window's tokens, and for each layer whether it has one."""
    family = families.WINDOWS.get(read.architecture)
    tokens = read.integer("attention.sliding_window", family.window_tokens if family else 0)
    listed = read.array("attention.sliding_window_pattern")
    if not tokens or (family is None and listed is None):
        return 0, (False,) * count
    if listed is not None:
        return tokens, tuple(bool(listed[index % len(listed)]) for index in range(count))
    assert family is not None  # noqa: S101 - told above; mypy cannot see it
    period = read.integer("attention.sliding_window_pattern", family.period)
    dense = 0 if family.dense_first else period - 1
    return tokens, tuple(period == 0 or index % period != dense for index in range(count))


def _layers(read: _Reader, windowed: tuple[bool, ...]) -> Iterator[Layer]:
    name, count = read.architecture, len(windowed)
    embedding = read.integer("embedding_length")
    shared = read.integer("attention.shared_kv_layers")
    interval = read.integer("full_attention_interval", INTERVAL) or INTERVAL
    state = _state(read)
    latent = read.integer("attention.key_length_mla") > 0
    for index, is_window in enumerate(windowed):
        heads = read.of_layer("attention.head_count", index)
        heads_kv = read.of_layer("attention.head_count_kv", index, heads)
        width = embedding // heads if heads else 0
        key, value = read.integer("attention.key_length", width), read.integer("attention.value_length", width)
        if is_window:
            key = read.integer("attention.key_length_swa", key)
            value = read.integer("attention.value_length_swa", value)
        feed_forward = read.of_layer("feed_forward_length", index)
        keeps_state = (
            name in families.RECURRENT
            or name in families.BOTH
            or (name in families.BY_HEADS and heads_kv == 0 and not (name.startswith("nemotron") and feed_forward))
            or (name in families.BY_INTERVAL and (index + 1) % interval != 0)
        )
        attends = not keeps_state or name in families.BOTH
        yield Layer(
            heads=heads,
            heads_kv=heads_kv,
            key_length=key,
            value_length=0 if latent else value,
            feed_forward=feed_forward,
            is_window=is_window,
            has_cache=attends and name not in families.WITHOUT_CACHE and index < count - shared,
            state=state if keeps_state else 0,
        )


def _state(read: _Reader) -> int:
    """Numbers that a layer keeps for a sequence: llama_hparams::n_embd_r and n_embd_s."""
    embedding = read.integer("embedding_length")
    if head := read.integer("wkv.head_size"):
        return read.integer("token_shift_count", TOKEN_SHIFTS) * embedding + embedding * head
    if cached := read.integer("shortconv.l_cache"):
        return embedding * (cached - 1)
    kernel = max(0, read.integer("ssm.conv_kernel") - 1)
    if head := read.integer("kda.head_dim"):
        heads = read.integer("attention.head_count")
        return 3 * (kernel or 3) * heads * head + head * head * heads
    inner, state = read.integer("ssm.inner_size"), read.integer("ssm.state_size")
    return kernel * (inner + 2 * read.integer("ssm.group_count") * state) + state * inner


def _group_width(read: _Reader) -> int:
    """What Mamba 2's groups add to its inner width."""
    if read.architecture in families.BY_INTERVAL:
        return 0
    return read.integer("ssm.group_count") * read.integer("ssm.state_size")


def _query_width(read: _Reader, layer: Layer) -> int:
    """Twice the query, before and after its rotation; with MLA the query, its latent form and their sum."""
    latent = read.integer("attention.kv_lora_rank")
    if read.integer("attention.key_length_mla"):
        return layer.heads * (layer.key_length + latent + read.integer("attention.key_length_mla"))
    return 2 * layer.heads * layer.key_length


def _expert_width(model: Model, read: _Reader) -> int:
    if not read.integer("expert_count"):
        return 0
    shapes = (one.shape for one in model.tensors if one.name.endswith("ffn_up_exps.weight"))
    return next((shape[1] for shape in shapes if len(shape) > 1), read.integer("expert_feed_forward_length"))


def _has_fused_gate(model: Model, layers: tuple[Layer, ...]) -> bool:
    """Gate and values in one matrix, as phi3 and glm4 have them."""
    shape = next((one.shape for one in model.tensors if one.name == "blk.0.ffn_up.weight"), ())
    return len(shape) > 1 and shape[1] == 2 * layers[0].feed_forward


def _doubts(model: Model) -> Iterator[str]:
    if model.architecture not in families.KNOWN:
        yield f"the architecture {model.architecture!r} is not known here, so it was taken for one like llama"
    elif model.architecture in families.ROUGH:
        yield f"the compute buffers of {model.architecture} were never compared with a real server's"
    unknown = sorted({one.type_name for one in model.tensors if not one.has_known_size})
    if unknown:
        yield f"the size of tensors of {', '.join(unknown)} is not known: their room in the file was counted"
    if model.problems:
        yield "files of the model are missing or damaged, so this is a lower bound"
