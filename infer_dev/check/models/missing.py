"""A file that is named and cannot be had: why, and which one may be meant."""

import os
import stat
from collections.abc import Sequence

from infer_dev.settings import MODELS_ROOT

MOST_LISTED = 4
MOST_LOOKED_AT = 5000
_ENDING = ".gguf"


def why_missing(path: str, *, models_root: str = MODELS_ROOT) -> tuple[str, str]:
    """Why there is no file at `path`, as it continues the path after a colon, and what to do.

    Args:
        path: absolute; nothing can be opened there.
        models_root: the folder under which a container has its models mounted.
    """
    if os.path.islink(path):
        target = os.readlink(path)
        hint = "mount the folder it points to as well, or name the file itself"
        return f"it is a link to {target}, which is not there", hint
    if forgotten := _forgotten_mount(path, models_root):
        name = os.path.relpath(path, models_root).split("/")[0]
        mount = f"mount the model's folder at {forgotten} (INFER_DEV_MODEL_DIR, INFER_DEV_MODEL_NAME={name})"
        hint = f"in a container {mount}; elsewhere correct the path"
        return f"the mount looks forgotten: {forgotten} is {_state(forgotten)}", hint
    folder = _nearest_folder(path)
    wanted = os.path.relpath(path, folder).split("/")[0]
    names = _names(folder)
    is_last = os.path.dirname(path) == folder
    reason = "no such file" if is_last else f"there is no folder {os.path.join(folder, wanted)}"
    if path.startswith("~") or "/~" in path or "$" in path:
        return reason, "neither ~ nor $NAME is replaced here, as no shell reads it: write the whole path"
    if near := _near(wanted, names):
        return reason, f"did you mean {os.path.join(folder, near)}?"
    if is_last and (models := [name for name in names if name.endswith(_ENDING)]):
        more = f" and {len(models) - MOST_LISTED} more" if len(models) > MOST_LISTED else ""
        return reason, f"{folder} has {', '.join(models[:MOST_LISTED])}{more}"
    return reason, f"{folder} is there and {'has nothing like it' if names else 'is empty'}: correct the path"


def what_keeps_out(path: str, *, uid: int, groups: Sequence[int]) -> str:
    """The first part of `path` that an account may not enter or read, by its mode; "" if there is none.

    What has an access list is taken as open: it may grant what the mode does not.
    """
    for way in dict.fromkeys((path, os.path.realpath(path))):  # the way to a link, and the way it leads
        parts = way.split("/")
        for end in range(1, len(parts) + 1):
            part = "/".join(parts[:end]) or "/"
            try:
                status = os.stat(part)
            except OSError:
                return ""  # whoever opens it tells
            wanted = stat.S_IROTH if end == len(parts) else stat.S_IXOTH
            if not _grants(status, wanted, uid, groups) and not _has_access_list(part):
                return part
    return ""


def _grants(status: os.stat_result, wanted: int, uid: int, groups: Sequence[int]) -> bool:
    """Whether the mode grants `wanted` (as a bit for others) to an account; the first class that fits decides."""
    if uid == 0:
        return True
    if status.st_uid == uid:
        wanted <<= 6
    elif status.st_gid in groups:
        wanted <<= 3
    return bool(status.st_mode & wanted)


def _has_access_list(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False


def _forgotten_mount(path: str, root: str) -> str:
    """The folder where a volume should be and is none; "" if `path` is not below `root` or something is there."""
    if not path.startswith(f"{root}/"):
        return ""
    mount = os.path.join(root, path[len(root) + 1 :].partition("/")[0])
    if mount == path:  # a file right below the root
        return root if _state(root) in ("empty", "not there") else ""
    if _state(mount) == "empty":
        return mount
    return mount if _state(mount) == "not there" and not _near(os.path.basename(mount), _names(root)) else ""


def _state(folder: str) -> str:
    if not os.path.isdir(folder):
        return "not there"
    return "there" if _names(folder) else "empty"


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:MOST_LOOKED_AT]
    except OSError:
        return []


def _nearest_folder(path: str) -> str:
    """The deepest folder above `path` that is there."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder)
    return folder


def _near(wanted: str, names: Sequence[str]) -> str:
    """The name that was probably meant, or ""."""
    from difflib import get_close_matches  # noqa: PLC0415 - costs start-up time, needed for mistakes only

    stem = wanted.removesuffix(_ENDING)
    for name in names:
        is_first_shard = name.startswith(f"{stem}-00001-of-") and name.endswith(_ENDING)
        if name.lower() == wanted.lower() or name == f"{wanted}{_ENDING}" or is_first_shard:
            return name
    return next(iter(get_close_matches(wanted, names, n=1, cutoff=0.65)), "")
