"""The rows of the result, as a table for people and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.paired import Pairs

HEADERS = ("what", "ours", "peer", "compared", "bound", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure and its bound.

    Attributes:
        name: the benchmark it belongs to.
        what: ours and the peer, in words.
        unit: of ours and the peer's.
        pairs: how many were measured.
        ours, peer: medians.
        ours_min, peer_min: the least of each.
        kind: what `figure` is: "ratio", "difference" (both of pairs, the median) or "value" (ours).
        figure: what is held against the bound.
        bound: the most it may be; None: told, not judged.
    """

    name: str
    what: str
    unit: str
    pairs: int
    ours: float
    peer: float
    ours_min: float
    peer_min: float
    kind: str
    figure: float
    bound: float | None

    @property
    def verdict(self) -> str:
        """ "ok", "over", or "" where nothing is judged."""
        if self.bound is None:
            return ""
        return "ok" if self.figure <= self.bound else "over"


def row(name: str, what: str, pairs: Pairs, *, kind: str, bound: float | None, unit: str = "ms") -> Row:
    """A row made from pairs."""
    ours = median(pairs.ours)
    return Row(
        name=name,
        what=what,
        unit=unit,
        pairs=len(pairs.ours),
        ours=ours,
        peer=median(pairs.peer),
        ours_min=min(pairs.ours),
        peer_min=min(pairs.peer),
        kind=kind,
        figure={"ratio": pairs.ratio, "difference": pairs.difference, "value": ours}[kind],
        bound=bound,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    cells = [HEADERS, *(_cells(one) for one in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADERS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, len(HEADERS) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as plain values, all figures in full."""
    return [asdict(one) | {"verdict": one.verdict} for one in rows]


def _cells(one: Row) -> tuple[str, ...]:
    sign = "+" if one.kind == "difference" else ""
    unit = "x" if one.kind == "ratio" else f" {one.unit}"
    places = 2 if one.kind == "ratio" else 1
    return (
        one.what,
        f"{one.ours:.1f} {one.unit}",
        f"{one.peer:.1f} {one.unit}",
        f"{one.figure:{sign}.{places}f}{unit}",
        "-" if one.bound is None else f"<= {one.bound:g}{unit}",
        one.verdict,
    )
