"""Figures of many supervisors: collected as they come, then one Markdown table, and our bounds."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

OURS = "infer-dev"
DASH = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One cell of the table.

    Attributes:
        key: the row.
        peer: the column.
        values: what was measured, in the row's unit; empty if there is none.
        note: why there is none, or what else has to be told.
    """

    key: str
    peer: str
    values: Sequence[float] = ()
    note: str = ""

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def p90(self) -> float | None:
        """The value that nine of ten do not exceed."""
        return sorted(self.values)[max(0, -(-len(self.values) * 9 // 10) - 1)] if self.values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the table: what it holds, and whether cells are compared with ours."""

    key: str
    what: str
    unit: str
    compared: bool = True
    with_p90: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What ours must keep to: `most` (`is_exact`: that and no less), by the medians of all in the row."""

    key: str
    says: str
    most: Callable[[Mapping[str, float]], float | None]
    is_exact: bool = False


LINES = (
    Line(key="restart", what="kill -9 of a child → its successor runs", unit="ms", with_p90=True),
    Line(key="start-8", what="start 8", unit="ms"),
    Line(key="start-64", what="start 64", unit="ms"),
    Line(key="start-8-cli", what="start 8, by its command line", unit="ms"),
    Line(key="start-64-cli", what="start 64, by its command line", unit="ms"),
    Line(key="stop-8", what="stop 8", unit="ms"),
    Line(key="stop-64", what="stop 64", unit="ms"),
    Line(key="stop-8-cli", what="stop 8, by its command line", unit="ms"),
    Line(key="stop-64-cli", what="stop 64, by its command line", unit="ms"),
    Line(key="stubborn", what="stop 8 that ignore TERM, limit 3 s", unit="s"),
    Line(key="memory", what="memory (PSS) of all its processes, 8 up", unit="MiB"),
    Line(key="processes", what="its processes, 8 up", unit="", compared=False),
    Line(key="idle", what="CPU in 60 s idle, 8 up", unit="ms"),
    Line(key="log", what="200,000 log lines: time of a child ÷ straight to a file", unit="x", compared=False),
    Line(key="log-ms", what="200,000 log lines: time of the child", unit="ms", compared=False),
    Line(key="log-plain", what="the same straight to a file, in turn with it", unit="ms", compared=False),
    Line(key="log-lost", what="log lines lost of 200,000", unit="", compared=False),
    Line(key="killed", what="copies of 8 after the supervisor was killed and started again", unit="", compared=False),
    Line(key="adopted", what="the new daemon starts → all 8 adopted", unit="ms"),
    Line(key="status-8", what="GET /status, 8 instances", unit="ms"),
    Line(key="status-256", what="GET /status, 256 instances", unit="ms"),
    Line(key="status-8-cli", what="`infer-dev status`, 8 instances", unit="ms"),
    Line(key="status-256-cli", what="`infer-dev status`, 256 instances", unit="ms"),
    Line(key="status-ratio", what="`infer-dev status`, 256 ÷ 8", unit="x"),
    Line(key="idle-256", what="CPU in 60 s idle, 256 up", unit="ms"),
    Line(key="idle-ratio", what="CPU idle, 256 ÷ 8", unit="x"),
    Line(key="memory-256", what="memory (PSS), 256 up", unit="MiB"),
)


def _fixed(limit: float) -> Callable[[Mapping[str, float]], float | None]:
    return lambda _: limit


def _times_s6(factor: float) -> Callable[[Mapping[str, float]], float | None]:
    return lambda peers: factor * peers["s6"] if "s6" in peers else None


BOUNDS = (
    Bound(key="restart", says="5 ms", most=_fixed(5)),
    Bound(key="start-64", says="s6's", most=_times_s6(1)),
    Bound(key="start-64-cli", says="s6's", most=_times_s6(1)),
    Bound(key="stop-64", says="3 x s6's", most=_times_s6(3)),
    Bound(key="stop-64-cli", says="3 x s6's", most=_times_s6(3)),
    Bound(key="memory", says="40 MiB", most=_fixed(40)),
    Bound(key="idle", says="100 ms", most=_fixed(100)),
    Bound(key="log", says="1.05 x", most=_fixed(1.05)),
    Bound(key="log-lost", says="none", most=_fixed(0)),
    Bound(key="killed", says="8 copies", most=_fixed(8), is_exact=True),
    Bound(key="status-ratio", says="2 x", most=_fixed(2)),
    Bound(key="idle-ratio", says="32 x 1.2", most=_fixed(38.4)),
)


@dataclass(slots=True)
class Figures:
    """All figures so far; each is told as it comes."""

    found: dict[tuple[str, str], Figure] = field(default_factory=dict)

    def add(self, figure: Figure) -> None:
        self.found[figure.key, figure.peer] = figure
        print(f"  {figure.peer:12} {figure.key:15} {self._told(figure)}", file=sys.stderr, flush=True)

    def medians(self, key: str) -> dict[str, float]:
        """Peer → median of a row."""
        pairs = ((peer, one.median) for (row, peer), one in self.found.items() if row == key)
        return {peer: value for peer, value in pairs if value is not None}

    def table(self, peers: Sequence[str]) -> str:
        """The rows that have a figure, as Markdown; in brackets the peer's median over ours."""
        rows = [["", *peers], ["---"] * (len(peers) + 1)]
        for line in LINES:
            if any((line.key, peer) in self.found for peer in peers):
                what = f"{line.what}, {line.unit}" if line.unit else line.what
                rows.append([what, *(self._cell(line, peer) for peer in peers)])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def notes(self, peers: Sequence[str]) -> str:
        """Why cells are empty, and what else is to be told, one line each."""
        what = {line.key: line.what for line in LINES}
        shown = {}
        for (key, peer), one in self.found.items():
            if one.note and peer in peers:
                shown.setdefault((peer, one.note), []).append(what[key])
        return "\n".join(f"- {peer}: {note} ({'; '.join(rows)})" for (peer, note), rows in shown.items())

    def verdicts(self) -> list[tuple[str, bool]]:
        """Our bounds: what each says, and whether it is held."""
        lines = {line.key: line for line in LINES}
        given = []
        for bound in BOUNDS:
            medians = self.medians(bound.key)
            most = bound.most(medians)
            if OURS in medians and most is not None:
                ours, line = medians[OURS], lines[bound.key]
                held = ours == most if bound.is_exact else ours <= most
                compared = f"{_short(ours)} against {_short(most)} {line.unit}".rstrip()
                verdict = "held" if held else "not held"
                given.append((f"{line.what}: bound {bound.says}: {verdict} ({compared})", held))
        return given

    def as_json(self) -> list[dict[str, object]]:
        """Every figure with all its values."""
        return [asdict(one) | {"median": one.median, "p90": one.p90} for one in self.found.values()]

    def _cell(self, line: Line, peer: str) -> str:
        one = self.found.get((line.key, peer))
        if one is None or one.median is None:
            return DASH
        text = _short(one.median)
        if line.with_p90 and one.p90 is not None:
            text += f", p90 {_short(one.p90)}"
        ours = self.medians(line.key).get(OURS)
        if line.compared and peer != OURS and ours:
            text += f" ({_short(one.median / ours)}x)"
        return text

    def _told(self, figure: Figure) -> str:
        if figure.median is None:
            return f"{DASH} {figure.note}"
        least, most = min(figure.values), max(figure.values)
        spread = f" ({_short(least)} to {_short(most)}, {len(figure.values)} taken)" if len(figure.values) > 1 else ""
        return f"{_short(figure.median)}{spread} {figure.note}".rstrip()


def _short(value: float) -> str:
    """Three digits that count."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
