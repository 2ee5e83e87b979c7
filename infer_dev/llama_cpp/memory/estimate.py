"""What an instance will need on each device. Pure: header, options and free memory in, bytes out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infer_dev.llama_cpp.memory.cache import Cells, cache_bytes, cells_of
from infer_dev.llama_cpp.memory.compute import compute_bytes, input_bytes, output_bytes
from infer_dev.llama_cpp.memory.placement import Layout, layout_of, places_of
from infer_dev.llama_cpp.memory.settings import MIB, Settings
from infer_dev.llama_cpp.memory.shape import Shape
from infer_dev.llama_cpp.memory.weights import HOST, Kind, Weights

DRIVER_BYTES = 400 * MIB
"""What CUDA takes for a process on each GPU it uses. An assumption: 300 to 500 MiB by card and driver."""
PIPELINE_COPIES = 4  # GGML_SCHED_MAX_COPIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Bytes on one device.

    Attributes:
        weights: of the model and what comes with it.
        mapped: those of the weights that are the file's own pages and may be given up for others (host only).
        cache: keys, values and states.
        compute: intermediate results.
        output: results of a batch.
        driver: what the GPU's driver takes for the process.
    """

    weights: int = 0
    mapped: int = 0
    cache: int = 0
    compute: int = 0
    output: int = 0
    driver: int = 0

    @property
    def total(self) -> int:
        """All of it, the file's pages too."""
        return self.weights + self.cache + self.compute + self.output + self.driver

    @property
    def fixed(self) -> int:
        """What cannot be given up."""
        return self.total - self.mapped

    def __add__(self, other: "Use") -> "Use":
        return Use(
            weights=self.weights + other.weights,
            mapped=self.mapped + other.mapped,
            cache=self.cache + other.cache,
            compute=self.compute + other.compute,
            output=self.output + other.output,
            driver=max(self.driver, other.driver),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One model that is loaded, with its settings."""

    shape: Shape
    weights: Weights
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """All that an instance loads.

    Attributes:
        model: the main one.
        draft: a second one that predicts ahead, or None.
        adapters_bytes: LoRA files, held where the model's layers are.
        projector_bytes: the multimodal projector's file.
        projector_on_gpu: it is loaded to the main GPU.
    """

    model: Part
    draft: Part | None = None
    adapters_bytes: int = 0
    projector_bytes: int = 0
    projector_on_gpu: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an instance needs.

    Attributes:
        host: in ordinary memory.
        gpus: on each visible GPU, in their order.
        context_tokens: of all slots.
        slots: requests at a time.
        gpu_layers: how many are on GPUs, the output as one.
        layers: how many there are, the output as one.
        fitted_context: it was lowered from this many tokens to fit; 0: it was not.
        fitted_layers: layers were left to the host to fit.
        prompt_cache_bytes: what prompts of earlier requests may take on the host besides; None: no limit.
        doubts: what could not be told.
    """

    host: Use
    gpus: tuple[Use, ...]
    context_tokens: int
    slots: int
    gpu_layers: int
    layers: int
    fitted_context: int = 0
    fitted_layers: bool = False
    prompt_cache_bytes: int | None = 0
    doubts: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Every figure in bytes."""
        return asdict(self)


def as_told(load: Load, room: Sequence[int], gpu_layers: int | None = None) -> Estimate:
    """The estimate without any lowering; `gpu_layers` stands in for the settings'."""
    model = load.model
    layout = layout_of(model.shape, model.settings, room, gpu_layers)
    cells = cells_of(model.shape, model.settings)
    uses = _uses(model, layout, cells, len(room))
    main = min(layout.gpus, default=HOST)
    _add(uses, main, Use(weights=load.adapters_bytes))
    _add(uses, main if load.projector_on_gpu else HOST, Use(weights=load.projector_bytes))
    doubts = list(model.shape.doubts)
    if load.projector_bytes:
        doubts.append("what the projector needs while it reads an image is not counted")
    if load.draft is not None:
        draft = load.draft
        draft_layout = layout_of(draft.shape, draft.settings, room)
        for device, use in _uses(draft, draft_layout, cells_of(draft.shape, draft.settings), len(room)).items():
            _add(uses, device, use)
        doubts += [f"draft model: {one}" for one in draft.shape.doubts]
    return Estimate(
        host=uses[HOST],
        gpus=tuple(uses[gpu] for gpu in range(len(room))),
        context_tokens=cells.context,
        slots=model.settings.slots,
        gpu_layers=layout.gpu_layers,
        layers=len(model.shape.layers) + model.shape.spare_layers + 1,
        prompt_cache_bytes=model.settings.prompt_cache_bytes,
        doubts=tuple(doubts),
    )


def _uses(part: Part, layout: Layout, cells: Cells, gpus: int) -> dict[int, Use]:
    """Device → what the part takes there; HOST and every visible GPU are in it."""
    shape, settings = part.shape, part.settings
    devices = (HOST, *range(gpus))
    # Plain numbers: a rack of 64 instances sums up ten thousand of them.
    weights, mapped, cache = (dict.fromkeys(devices, 0) for _ in range(3))
    maps = settings.maps_file and not settings.locks
    for wanted, row in places_of(part.weights, shape, settings, layout):
        device = wanted if wanted in weights else HOST
        weights[device] += row.size_bytes
        if device == HOST and maps and not (settings.repacks and row.is_repacked and row.kind is not Kind.EMBEDDING):
            mapped[device] += row.size_bytes
    for device, layer in zip(layout.layers, shape.layers, strict=True):
        cache[device if settings.cache_on_gpu else HOST] += cache_bytes(layer, shape, settings, cells)
    uses = {one: Use(weights=weights[one], mapped=mapped[one], cache=cache[one]) for one in devices}
    inputs = input_bytes(shape, settings, cells)
    is_pipeline = len(layout.gpus) > 1 and HOST not in layout.layers and settings.split_mode == "layer"
    is_pipeline = is_pipeline and settings.cache_on_gpu and not settings.overrides and not settings.cpu_expert_layers
    copies = (PIPELINE_COPIES - 1) * inputs if is_pipeline else 0
    compute = compute_bytes(shape, settings, cells, on_gpu=True)
    for gpu in layout.gpus:
        _add(uses, gpu, Use(compute=compute + copies, driver=DRIVER_BYTES))
    on_host = inputs + copies
    if HOST in layout.layers or not layout.gpus:
        on_host = compute_bytes(shape, settings, cells, on_gpu=False)
    _add(uses, HOST, Use(compute=on_host, output=output_bytes(shape, settings)))
    return uses


def _add(uses: dict[int, Use], device: int, use: Use) -> None:
    uses[device] = uses[device] + use


def with_context(load: Load, tokens: int) -> Load:
    """The same with another context."""
    model = load.model
    return replace(load, model=replace(model, settings=replace(model.settings, context_tokens=tokens)))
