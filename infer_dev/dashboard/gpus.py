"""The GPUs: memory split by instance, how busy they were in the last five minutes, temperature, power."""

import time
from collections import deque
from collections.abc import Sequence

from rich.text import Text
from textual.widget import Widget

from infer_dev.dashboard.picture import Gpu
from infer_dev.dashboard.words import bar, percent, size, sparkline

GPU_ROWS = 3  # of one GPU, where there is room
HISTORY_S = 300
MOST_SAMPLES = 2 * HISTORY_S  # one a second; more come with events
STYLES = ("cyan", "magenta", "yellow", "blue", "green")
OTHERS_STYLE = "bright_black"
HOT_C = 85
COMPACT_WIDTH = 60


class Gpus(Widget):
    """The panel. Three lines a GPU, one where there is little room; without one it is a single line."""

    def __init__(self) -> None:
        super().__init__(id="gpus")
        self.border_title = "GPUs"
        self.is_compact = False
        self.is_framed = True
        self._gpus: Sequence[Gpu] = ()
        self._note = ""
        self._names: Sequence[str] = ()
        self._busy: dict[int, deque[tuple[float, float]]] = {}

    def show(self, gpus: Sequence[Gpu], note: str, names: Sequence[str]) -> None:
        """Take what the driver says, once a second; `names` of instances, whose colours go by their order."""
        self._gpus, self._note, self._names = gpus, note, names
        for gpu in gpus:
            self._busy.setdefault(gpu.index, deque(maxlen=MOST_SAMPLES)).append((time.monotonic(), gpu.busy or 0.0))
        self.set_class(not gpus, "-none")
        self.styles.height = self.rows + (2 if gpus and self.is_framed else 0)
        self.refresh()

    @property
    def rows(self) -> int:
        """Lines it needs."""
        return max(1, len(self._gpus) * (1 if self.is_compact else GPU_ROWS))

    def render(self) -> Text:
        """All GPUs."""
        if not self._gpus:
            return Text(
                f"no GPU: {self._note}" if self._note else "no GPU", style="dim", no_wrap=True, overflow="ellipsis"
            )
        draw = self._compact if self.is_compact else self._full
        return Text("\n").join(draw(gpu, self.size.width) for gpu in self._gpus)

    def _full(self, gpu: Gpu, width: int) -> Text:
        if gpu.problem:
            return Text(
                f"{gpu.index} does not answer: {gpu.problem}\n\n", style="red", no_wrap=True, overflow="ellipsis"
            )
        text = Text(no_wrap=True, overflow="ellipsis")
        figures = self._figures(gpu)
        room = max(0, width - figures.cell_len - 3)
        text.append(f"{gpu.index} ", "bold").append(gpu.name[:room].ljust(room)).append(" ").append_text(figures)
        text.append("\n")
        memory = f" {size(gpu.used_bytes)}/{size(gpu.total_bytes)}"
        text.append_text(self._bar(gpu, max(4, width - len(memory)))).append(memory)
        text.append("\n")
        owners = [f"{name} {size(used)}" for name, used in gpu.held.items()]
        told = "  ".join(owners)
        spark = max(10, width - len(told) - 1) if told else width
        text.append(self._spark(gpu, spark), "green")
        for name, owner in zip(gpu.held, owners, strict=True):
            text.append(" ").append(owner, self._style(name))
        return text

    def _compact(self, gpu: Gpu, width: int) -> Text:
        if gpu.problem:
            return Text(f"{gpu.index} does not answer: {gpu.problem}", style="red", no_wrap=True, overflow="ellipsis")
        figures = self._figures(gpu)
        memory = f" {size(gpu.used_bytes)}/{size(gpu.total_bytes)} "
        room = width - figures.cell_len - len(memory) - 2
        spark = min(30, room // 3) if width >= COMPACT_WIDTH else 0
        text = Text(f"{gpu.index} ", style="bold", no_wrap=True, overflow="ellipsis")
        text.append_text(self._bar(gpu, max(4, room - spark - 1))).append(memory)
        if spark:
            text.append(self._spark(gpu, spark), "green").append(" ")
        return text.append_text(figures)

    def _spark(self, gpu: Gpu, width: int) -> str:
        return sparkline(self._busy[gpu.index], now=self._busy[gpu.index][-1][0], span_s=HISTORY_S, width=width)

    def _figures(self, gpu: Gpu) -> Text:
        hot = gpu.temperature_c is not None and gpu.temperature_c >= HOT_C
        text = Text(f"{percent(gpu.busy):>4}")
        text.append("" if gpu.temperature_c is None else f" {gpu.temperature_c}°C", "bold red" if hot else "")
        return text.append("" if gpu.power_w is None else f" {gpu.power_w:.0f}W")

    def _bar(self, gpu: Gpu, width: int) -> Text:
        total = gpu.total_bytes or 0
        if not total:
            return Text("memory is not told".ljust(width)[:width], style="dim")
        parts = [(used / total, self._style(name)) for name, used in gpu.held.items()]
        rest = (gpu.used_bytes or 0) - sum(gpu.held.values())
        return bar([*parts, (max(0, rest) / total, OTHERS_STYLE)], width)

    def _style(self, name: str) -> str:
        at = self._names.index(name) if name in self._names else 0
        return STYLES[at % len(STYLES)]
