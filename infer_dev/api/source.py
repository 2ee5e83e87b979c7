"""Which file a request is about, and what decides its meaning."""

import os
from collections.abc import Mapping
from typing import Any

from infer_dev.errors import UsageError
from infer_dev.plan.model import Source

KEYS = {"config": str, "overrides": str | None, "search_path": str | None}


def absolute(path: str) -> str:
    """A path of a request, which says nothing of the folder it would count from.

    Raises:
        UsageError: it is not absolute.
    """
    if not os.path.isabs(path):
        raise UsageError(f"cannot use {path!r}: expected an absolute path")
    return path


def source_of(body: Mapping[str, Any], up: Mapping[str, Source]) -> Source:  # Any: JSON
    """The source that a body with KEYS names.

    Without a search path it is as it was brought up, overrides too; for a file that is not up the daemon's own PATH
    counts: who asks from another machine knows neither.

    Args:
        body: the request.
        up: the files that are up.

    Raises:
        UsageError: the path is not absolute.
    """
    path, overrides, search_path = absolute(body["config"]), body["overrides"], body["search_path"]
    if search_path is None:
        known = up.get(path)
        search_path = known.search_path if known else os.environ.get("PATH", "")
        overrides = known.overrides if known and overrides is None else overrides
    return Source(path=path, overrides=overrides, search_path=search_path)
