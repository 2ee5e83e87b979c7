"""What changes from one set of specs to the next: which start, stop, restart, stay. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from infer_dev.plan.model import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Names by what becomes of them, each in the new plan's order (`gone` in the old one's).

    Attributes:
        new: not known before.
        gone: no longer in the plan.
        changed: needs another process.
        updated: same process; only how it is kept alive or listed differs.
        unchanged: equal in everything.
    """

    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def diff(old: Mapping[str, Spec], new: Mapping[str, Spec]) -> Changes:
    """Compare two sets of specs by name."""
    both = [name for name in new if name in old]
    changed = tuple(name for name in both if old[name].command != new[name].command)
    return Changes(
        new=tuple(name for name in new if name not in old),
        gone=tuple(name for name in old if name not in new),
        changed=changed,
        updated=tuple(name for name in both if name not in changed and old[name] != new[name]),
        unchanged=tuple(name for name in both if old[name] == new[name]),
    )
