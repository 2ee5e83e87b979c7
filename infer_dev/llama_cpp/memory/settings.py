"""The options on which memory depends, as llama-server takes them.

Defaults are those of llama.cpp's common/common.h; what a value does is told beside its use.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

AUTO_SLOTS = 4  # tools/server: `n_parallel` of -1 becomes 4 with a unified cache
MAX_LAYERS = 1 << 16
ROW_BYTES = {  # bytes of a block, numbers in it
    "f32": (4, 1),
    "f16": (2, 1),
    "bf16": (2, 1),
    "q8_0": (34, 32),
    "q5_1": (24, 32),
    "q5_0": (22, 32),
    "q4_1": (20, 32),
    "q4_0": (18, 32),
    "iq4_nl": (18, 32),
}
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What llama-server was told, or does by itself.

    Attributes:
        context_tokens: of all slots; 0: what the model was trained for.
        per_slot_tokens: of one slot, where the whole is not given (`kv-unified-per-slot`).
        batch: tokens in a logical batch.
        ubatch: tokens computed at once.
        slots: requests at a time.
        is_unified: one cache for all slots.
        type_k: of cached keys.
        type_v: of cached values.
        flash: flash attention is used.
        full_window: layers with a window cache the whole context, too.
        cache_on_gpu: the cache is where its layer is.
        gpu_layers: from the model's end; None: as many as fit.
        split_mode: none, layer, row or tensor.
        tensor_split: shares of the GPUs, or ().
        main_gpu: the only one, where the mode is none.
        devices: indices of the visible GPUs it may use; None: all.
        cpu_expert_layers: whose experts stay on the host, from the first.
        cpu_dense_layers: whose dense feed-forward weights do.
        overrides: (pattern of tensor names, buffer type).
        fits: it lowers what was not set until it fits.
        fit_context_tokens: what it does not go below.
        fit_margins_bytes: what it leaves free on each GPU; the last one counts for those that follow.
        maps_file: weights on the host are the file's own pages.
        locks: and they are held in memory.
        repacks: some types are rearranged for the CPU, in memory of their own.
        prompt_cache_bytes: at most, for prompts of earlier requests; None: no limit.
        embeds: it serves embeddings.
        pools: the option asks for pooled output; None: as the model does.
        predicts_ahead: the model's own layers for it are used (MTP).
        outputs_for_all: logits are reserved for each token of a batch, as older servers do.
    """

    context_tokens: int = 0
    per_slot_tokens: int = 0
    batch: int = 2048
    ubatch: int = 512
    slots: int = AUTO_SLOTS
    is_unified: bool = True
    type_k: str = "f16"
    type_v: str = "f16"
    flash: bool = True
    full_window: bool = False
    cache_on_gpu: bool = True
    gpu_layers: int | None = None
    split_mode: str = "layer"
    tensor_split: tuple[float, ...] = ()
    main_gpu: int = 0
    devices: tuple[int, ...] | None = None
    cpu_expert_layers: int = 0
    cpu_dense_layers: int = 0
    overrides: tuple[tuple[str, str], ...] = ()
    fits: bool = True
    fit_context_tokens: int = 4096
    fit_margins_bytes: tuple[int, ...] = (1024 * MIB,)
    maps_file: bool = True
    locks: bool = False
    repacks: bool = True
    prompt_cache_bytes: int | None = 8192 * MIB
    embeds: bool = False
    pools: bool | None = None
    predicts_ahead: bool = False
    outputs_for_all: bool = False


def settings_of(options: Mapping[str, str], listed: frozenset[str] | None = None) -> Settings:
    """The settings that options mean. What cannot be read as a number counts as not given.

    Args:
        options: canonical name without dashes → text of the last value; "" for one without.
        listed: every option of the binary's help, which tells how old it is; None: take it for a new one.
    """
    has = _Options(options)
    slots = has.number("parallel", default=-1)
    is_auto = slots < 1
    if is_auto:
        slots = AUTO_SLOTS if listed is None or "kv-unified" in listed else 1
    mode = has.text("load-mode") or "auto"
    fits = has.text("fit") not in {"off", "0", "false"} and (listed is None or "fit" in listed)
    unset_context = 0 if listed is None or "fit" in listed else 4096
    unset_layers = None if listed is None or "fit" in listed else 0
    pooling = has.text("pooling")
    return Settings(
        context_tokens=max(0, has.number("ctx-size", default=unset_context)),
        per_slot_tokens=max(0, has.number("kv-unified-per-slot")),
        batch=max(1, has.number("batch-size", default=2048)),
        ubatch=max(1, has.number("ubatch-size", default=512)),
        slots=slots,
        is_unified=has.switch("kv-unified", default=is_auto),
        type_k=has.type("cache-type-k"),
        type_v=has.type("cache-type-v"),
        flash=has.text("flash-attn") not in {"off", "0", "false", "disabled"},
        full_window=has.switch("swa-full", default=False),
        cache_on_gpu=has.switch("kv-offload", default=True),
        gpu_layers=_gpu_layers(has, unset_layers, "gpu-layers", "n-gpu-layers"),
        split_mode=has.text("split-mode") or "layer",
        tensor_split=_shares(has.text("tensor-split")),
        main_gpu=max(0, has.number("main-gpu")),
        devices=_devices(has.text("device")),
        cpu_expert_layers=MAX_LAYERS if has.switch("cpu-moe", default=False) else max(0, has.number("n-cpu-moe")),
        cpu_dense_layers=max(0, has.number("n-cpu-ffn")),
        overrides=_overrides(has.text("override-tensor")),
        fits=fits,
        fit_context_tokens=max(1, has.number("fit-ctx", default=4096)),
        fit_margins_bytes=_margins(has.text("fit-target")),
        maps_file=has.switch("mmap", default=True) and mode in {"auto", "mmap", "mmap+mlock"},
        locks=has.switch("mlock", default=False) or "mlock" in mode,
        repacks=has.switch("repack", default=True),
        prompt_cache_bytes=_prompt_cache(has, listed),
        embeds=any(has.switch(one, default=False) for one in ("embedding", "embeddings", "rerank", "reranking")),
        pools=None if not pooling else pooling != "none",
        predicts_ahead="mtp" in has.text("spec-type"),
        outputs_for_all=listed is not None and "load-mode" not in listed,
    )


def settings_of_draft(target: Settings, options: Mapping[str, str]) -> Settings:
    """The settings of the draft model beside `target`."""
    has = _Options(options)
    return replace(
        target,
        context_tokens=max(0, has.number("ctx-size-draft", default=target.context_tokens)),
        ubatch=max(0, has.number("spec-draft-n-ubatch")) or target.ubatch,
        type_k=has.type("spec-draft-type-k", "cache-type-k-draft"),
        type_v=has.type("spec-draft-type-v", "cache-type-v-draft"),
        gpu_layers=_gpu_layers(has, None, "spec-draft-ngl", "gpu-layers-draft", "n-gpu-layers-draft"),
        devices=_devices(has.text("spec-draft-device", "device-draft") or has.text("device")),
        cpu_expert_layers=max(0, has.number("spec-draft-n-cpu-moe", "n-cpu-moe-draft")),
        overrides=(),
        fits=False,
        predicts_ahead=False,
    )


class _Options:
    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options

    def text(self, *names: str) -> str:
        return next((self._options[name] for name in names if name in self._options), "")

    def number(self, *names: str, default: int = 0) -> int:
        try:
            return int(self.text(*names))
        except ValueError:
            return default

    def switch(self, name: str, *, default: bool) -> bool:
        """An option without a value and its `no-` form; the environment gives either a value."""
        if (off := self._options.get(f"no-{name}")) is not None:
            return off in {"0", "false", "off"}
        if (on := self._options.get(name)) is not None:
            return on not in {"0", "false", "off"}
        return default

    def type(self, *names: str) -> str:
        text = self.text(*names).lower()
        return text if text in ROW_BYTES else "f16"


def _gpu_layers(has: _Options, unset: int | None, *names: str) -> int | None:
    text = has.text(*names)
    if text == "all":
        return MAX_LAYERS
    number = has.number(*names, default=-1)
    return number if number >= 0 else (unset if not text else None)


def _numbers(text: str) -> tuple[float, ...]:
    found = []
    for one in text.replace("/", ",").split(","):
        with contextlib.suppress(ValueError):
            found.append(float(one))
    return tuple(one if math.isfinite(one) and one > 0 else 0.0 for one in found)


def _shares(text: str) -> tuple[float, ...]:
    shares = _numbers(text)
    return shares if any(shares) else ()


def _margins(text: str) -> tuple[int, ...]:
    return tuple(int(one) * MIB for one in _numbers(text)) or (1024 * MIB,)


def _devices(text: str) -> tuple[int, ...] | None:
    """`CUDA0,CUDA1` or `none`."""
    if not text:
        return None
    tails = (one.strip().lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") for one in text.split(","))
    return tuple(int(tail) for tail in tails if tail.isdigit())


def _overrides(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (one.rpartition("=") for one in text.split(",") if "=" in one)
    return tuple((pattern, buffer) for pattern, _, buffer in pairs)


def _prompt_cache(has: _Options, listed: frozenset[str] | None) -> int | None:
    if listed is not None and "cache-ram" not in listed:
        return 0
    mib = has.number("cache-ram", default=8192)
    return None if mib < 0 else mib * MIB
