"""A step of boot that is done by hand: what boot told of it is no longer so."""

from __future__ import annotations

import os

from infer_dev.settings import BOOT_ERROR_NAME, CONFIG_VAR, PKG_PATH_VAR, runtime_dir


def instances_are_up(config: str) -> None:
    """A file was brought up; if it is boot's, boot's error about it goes."""
    if _is_boot_s(config, CONFIG_VAR):
        from infer_dev.host.runtime.notes import NO_INSTANCES  # noqa: PLC0415 - where there is an error

        _clear(NO_INSTANCES)


def bundle_is_installed(archive: str) -> None:
    """An archive was installed; if it is boot's, boot's error about it goes."""
    if _is_boot_s(archive, PKG_PATH_VAR):
        from infer_dev.host.runtime.notes import NO_BUNDLE  # noqa: PLC0415 - as above

        _clear(NO_BUNDLE)


def _is_boot_s(path: str, variable: str) -> bool:
    """Whether boot has left errors, and this is the path it was given."""
    given = os.environ.get(variable, "")
    is_same = given != "" and os.path.abspath(given) == os.path.abspath(path)
    return is_same and os.path.lexists(os.path.join(runtime_dir(), BOOT_ERROR_NAME))


def _clear(beginning: str) -> None:
    import contextlib  # noqa: PLC0415 - as above

    from infer_dev.host.runtime.notes import clear_boot_errors  # noqa: PLC0415 - as above

    with contextlib.suppress(OSError):  # another user's folder: there the error stays until the next boot
        clear_boot_errors(runtime_dir(), beginning)
