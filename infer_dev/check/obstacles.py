"""What keeps an instance from starting, as both the check and the daemon look at it.

The daemon imports this at its start: no pydantic here, and so none of the check's own words.
"""

from collections.abc import Collection, Mapping, Sequence

from infer_dev.host import ports
from infer_dev.plan.conflicts import overlap
from infer_dev.plan.model import Endpoint, Spec

PORT_HINT = "give the instance another server.port, or end that program"
LOG_HINT = "correct control.log_dir or control.log_file, or the folder's permissions"
SHOWN_NAMES = 6


def ports_taken(specs: Sequence[Spec], ours: Collection[Endpoint]) -> Mapping[str, str]:
    """Instance → that its port or socket is taken by another program, and by which.

    Args:
        specs: instances that shall start.
        ours: endpoints held by instances of ours, which are no obstacle.
    """
    busy = [spec for spec in specs if not _is_ours(spec.endpoint, ours) and not ports.is_free(spec.endpoint)]
    holders = ports.holders() if any(not spec.endpoint.is_unix for spec in busy) else {}
    return {spec.name: ports.taken(spec.endpoint, holders) for spec in busy}


def _is_ours(endpoint: Endpoint, ours: Collection[Endpoint]) -> bool:
    """Whether what is in the way will be gone by then."""
    return any(overlap(endpoint, one) for one in ours)


def listed(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    shown = ", ".join(names[:SHOWN_NAMES])
    return f"{shown} and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else shown
