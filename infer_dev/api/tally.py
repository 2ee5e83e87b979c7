"""What the history adds up to: starts, restarts by cause, how long it took to be ready, phases of a switch."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from infer_dev.api.exposition import Family
from infer_dev.supervisor.history import History, Kind, Record

# A small model loads in a tenth of a second, one of hundreds of gigabytes from a slow disk in half an hour.
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)

SWITCH_ENDS = ("done", "failed")


@dataclass(slots=True)
class Spread:
    """How often something took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum_s += seconds

    def show(self, family: Family, **labels: str) -> None:
        """Add it to a histogram."""
        total = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts, strict=True):
            total += count
            family.add(total, "_bucket", **labels, le=bound)
        family.add(round(self.sum_s, 3), "_sum", **labels)
        family.add(total, "_count", **labels)


class Tally:
    """Counts records: all there have been if the history still has its first one, else those from now on.

    What was counted before a restart of the daemon is so counted again; where records are missing the count begins at
    0, which Prometheus takes for what it is. Within one daemon nothing ever falls.
    """

    def __init__(self, history: History) -> None:
        self._events: Counter[str] = Counter(dict.fromkeys(Kind, 0))
        self._starts: Counter[str] = Counter()
        self._restarts: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()
        self._ready: dict[str, Spread] = {}
        self._phases: dict[str, Spread] = {}
        self._switches: Counter[tuple[str, str]] = Counter()
        self._causes: dict[str, str] = {}  # for which an instance waits to be started again
        kept = history.since(0)
        for record in kept if kept and kept[0].id == 1 else ():
            self.see(record)
        history.watch(self.see)

    def see(self, record: Record) -> None:
        """Count one."""
        self._events[record.kind] += 1
        if record.kind == Kind.SWITCH:
            self._see_switch(record)
        elif record.kind == Kind.TRANSITION:
            self._see_transition(record)

    def _see_switch(self, record: Record) -> None:
        if record.old:
            self._phases.setdefault(record.old, Spread()).add(record.after_s)
        if record.new in SWITCH_ENDS:
            self._switches[record.instance, record.new] += 1

    def _see_transition(self, record: Record) -> None:
        name, cause = record.instance, record.cause
        waited_for = self._causes.pop(name, None)
        if record.new == "starting":
            self._starts[name] += 1
            if why := cause or waited_for:
                self._restarts[name, why] += 1
        elif record.new == "ready" and record.old == "starting":
            self._ready.setdefault(name, Spread()).add(record.after_s)
        elif record.new == "backoff" and cause:
            self._causes[name] = cause
        elif record.new == "failed":
            self._failures[name, cause or "unknown"] += 1

    def families(self) -> list[Family]:
        """The counts; those of an instance that is gone stay."""
        events = Family("infer_dev_events_total", "counter", "Records added to the history, by kind.")
        for kind, count in self._events.items():
            events.add(count, kind=kind)
        starts = Family("infer_dev_instance_starts_total", "counter", "Starts of an instance, restarts included.")
        for name, count in self._starts.items():
            starts.add(count, instance=name)
        restarts = Family(
            "infer_dev_instance_restarts_total", "counter", "Starts that followed on a failure, by its cause."
        )
        for (name, cause), count in self._restarts.items():
            restarts.add(count, instance=name, cause=cause)
        failures = Family("infer_dev_instance_failures_total", "counter", "Times it was given up, by cause.")
        for (name, cause), count in self._failures.items():
            failures.add(count, instance=name, cause=cause)
        ready = Family("infer_dev_instance_ready_seconds", "histogram", "Time from a start until it served.")
        for name, spread in self._ready.items():
            spread.show(ready, instance=name)
        switches = Family("infer_dev_switches_total", "counter", "Switches to an instance, by how they ended.")
        for (name, outcome), count in self._switches.items():
            switches.add(count, instance=name, outcome=outcome)
        phases = Family("infer_dev_switch_phase_seconds", "histogram", "Time spent in a phase of a switch.")
        for phase, spread in self._phases.items():
            spread.show(phases, phase=phase)
        return [events, starts, restarts, failures, ready, switches, phases]
