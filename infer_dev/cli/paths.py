"""Which configuration file is meant."""

import os

from infer_dev.errors import UsageError
from infer_dev.settings import CONFIG_VAR


def config_path(given: str | None) -> str:
    """The file named on the command line, else in the environment.

    Raises:
        UsageError: neither names one.
    """
    path = given or os.environ.get(CONFIG_VAR)
    if not path:
        raise UsageError("cannot tell which file: none is named", hint=f"name one, or set {CONFIG_VAR}")
    return path
