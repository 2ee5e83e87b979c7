"""Finds the llama-server to run: the one the file names, else the first of the usual places."""

import os
import shutil
from collections.abc import Mapping, Sequence

from infer_dev.errors import UnavailableError
from infer_dev.settings import BUNDLE_SERVER, SERVER_NAME, WORKSPACE_SERVER, native_prefix, server_under

USUAL_PLACES = (BUNDLE_SERVER, WORKSPACE_SERVER)


def places_here(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The usual places and, right behind the first, where bundles go on a host without `/soft/app`."""
    return tuple(dict.fromkeys((BUNDLE_SERVER, server_under(native_prefix(environ)), *USUAL_PLACES)))


def find_binary(
    configured: str,
    *,
    folder: str,
    search_path: str,
    place: str = "master.llama_cpp_path",
    usual_places: Sequence[str] | None = None,
) -> str:
    """The absolute path of the llama-server to run.

    Args:
        configured: `[master].llama_cpp_path`; if not empty, the only candidate.
        folder: a relative `configured` counts from here.
        search_path: the `PATH` to look in.
        place: where `configured` stands, for the message.
        usual_places: tried in order before `search_path`; by default `places_here()`.

    Raises:
        UnavailableError: none is there; lists every place tried and why each was rejected.
    """
    if configured:
        path = os.path.normpath(os.path.join(folder, configured))
        if reason := rejection(path):
            raise UnavailableError(
                f"cannot find llama-server: {place} = {path}: {reason}",
                hint="correct the path, or leave it empty to have the usual places searched",
            )
        return path
    tried = []
    for path in places_here() if usual_places is None else usual_places:
        if not (reason := rejection(path)):
            return path
        tried.append(f"  {path}: {reason}")
    if found := shutil.which(SERVER_NAME, path=search_path):
        return os.path.abspath(found)
    on_path = [os.path.join(part, SERVER_NAME) for part in search_path.split(":")]
    tried += [f"  {path} (on PATH): {rejection(path)}" for path in on_path if os.path.lexists(path)]
    tried.append(f"  {SERVER_NAME} on PATH: none that can run in {search_path or '(PATH is empty)'}")
    raise UnavailableError(
        "\n".join(["cannot find llama-server; tried in this order:", *tried]),
        hint="`infer-dev bundle install ARCHIVE`, build llama.cpp, or set master.llama_cpp_path in the file",
    )


def rejection(path: str) -> str:
    """Why `path` cannot be run as a server, or ""."""
    if os.path.isdir(path):
        return "is a folder"
    if not os.path.lexists(path):
        return "does not exist"
    if not os.path.exists(path):
        return "is a link to nowhere"
    if not os.path.isfile(path):
        return "is not a regular file"
    if not os.access(path, os.X_OK):
        return "is not executable (chmod +x)"
    return ""
