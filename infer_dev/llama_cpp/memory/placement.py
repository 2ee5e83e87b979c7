"""Which device holds which layer and which tensor.

Source: src/llama-model.cpp (`load_tensors`: `i_gpu_start`, `splits`, `get_layer_buft_list`), common/arg.cpp for the
patterns of `--cpu-moe`, `--n-cpu-moe` and `--n-cpu-ffn`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from infer_dev.llama_cpp.memory.settings import MAX_LAYERS, Settings
from infer_dev.llama_cpp.memory.shape import Shape
from infer_dev.llama_cpp.memory.weights import HOST, Kind, Row, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where layers are.

    Attributes:
        layers: for each layer its GPU's index among those that are visible, or HOST.
        output: of the output matrix.
        gpu_layers: how many are on GPUs, the output as one.
    """

    layers: tuple[int, ...]
    output: int
    gpu_layers: int

    def of(self, layer: int) -> int:
        return self.layers[layer] if layer < len(self.layers) else self.output

    @property
    def gpus(self) -> frozenset[int]:
        return frozenset(one for one in (*self.layers, self.output) if one != HOST)


def layout_of(shape: Shape, settings: Settings, room: Sequence[int], gpu_layers: int | None = None) -> Layout:
    """The layout llama-server chooses.

    Args:
        shape: the model's.
        settings: the options.
        room: free bytes of each visible GPU; llama-server shares layers out by them.
        gpu_layers: instead of the settings'.
    """
    usable = [gpu for gpu in range(len(room)) if settings.devices is None or gpu in settings.devices]
    if settings.split_mode == "none" and usable:
        usable = usable[settings.main_gpu : settings.main_gpu + 1] or usable[:1]
    count = len(shape.layers) + shape.spare_layers
    asked = settings.gpu_layers if gpu_layers is None else gpu_layers
    on_gpus = min(MAX_LAYERS if asked is None else asked, count + 1) if usable else 0
    if not on_gpus:
        return Layout(layers=(HOST,) * len(shape.layers), output=HOST, gpu_layers=0)
    shares = [_at(settings.tensor_split, place) for place in range(len(usable))]
    if not any(shares):
        shares = [float(max(1, room[gpu])) for gpu in usable]
    bounds = [bound / sum(shares) for bound in accumulate(shares)]
    begin = count + 1 - on_gpus

    def device(layer: int) -> int:
        if layer < begin:
            return HOST
        return usable[min(bisect_right(bounds, (layer - begin) / on_gpus), len(usable) - 1)]

    return Layout(layers=tuple(map(device, range(len(shape.layers)))), output=device(count), gpu_layers=on_gpus)


def places_of(weights: Weights, shape: Shape, settings: Settings, layout: Layout) -> Iterator[tuple[int, Row]]:
    """Each row that is loaded with its device; the embedding twice if it serves as the output on a GPU."""
    loaded = len(shape.layers) + (shape.spare_layers if settings.predicts_ahead else 0)
    for row in weights.rows:
        if row.layer >= loaded:
            continue
        if row.kind is Kind.EMBEDDING and weights.is_tied and layout.output != HOST:
            yield layout.output, row
        yield _place(row, settings, layout), row


def _place(row: Row, settings: Settings, layout: Layout) -> int:
    kind = row.kind
    if row.device is not None:
        return row.device
    if row.layer < 0:
        return layout.output if kind is Kind.OUTPUT else HOST
    stays = (kind is Kind.EXPERTS and row.layer < settings.cpu_expert_layers) or (
        kind is Kind.DENSE and row.layer < settings.cpu_dense_layers
    )
    return HOST if stays else layout.of(row.layer)


def _at(shares: Sequence[float], place: int) -> float:
    return shares[place] if place < len(shares) else 0.0
