"""A new daemon's first act: the instances that the one before left."""

import logging
from collections.abc import Callable

from infer_dev.errors import InferDevError
from infer_dev.host.process.marks import find_own
from infer_dev.plan.model import Plan, Source, Spec
from infer_dev.supervisor.instance import Instance
from infer_dev.supervisor.resume import Finding, findings, source_of_process
from infer_dev.supervisor.surroundings import Surroundings

log = logging.getLogger(__name__)


def take_over(around: Surroundings, sources: dict[str, Source], read: Callable[[Source], Plan]) -> list[Instance]:
    """The instances to go on with; to `sources` the files are added that are up.

    Args:
        around: what instances share; its store and /proc are looked through.
        sources: filled.
        read: the plan of a file, where only a process tells of an instance.
    """
    saved = around.store.load()
    sources.update(saved.sources)
    instances = []
    for found in findings(saved, find_own(around.runtime), now=around.clock(), codes=around.orphans.codes):
        spec = _spec_of(found, sources, read)
        if spec.source not in sources and found.past.running:
            sources[spec.source] = source_of_process(found.past.running.process.pid, spec.source)
        instances.append(Instance(spec, around, past=found.past))
    return instances


def _spec_of(found: Finding, sources: dict[str, Source], read: Callable[[Source], Plan]) -> Spec:
    """What its file says, if only a process told of it and the file still says the same."""
    running = found.past.running
    if running is None or not running.digest or running.digest == found.spec.command.digest:
        return found.spec
    path = found.spec.source
    try:
        specs = read(sources.get(path) or source_of_process(running.process.pid, path)).specs
    except InferDevError as err:
        log.warning("instance=%s: cannot read its file: %s", found.spec.name, err.message)
        return found.spec
    same = [one for one in specs if one.name == found.spec.name and one.command.digest == running.digest]
    return same[0] if same else found.spec
