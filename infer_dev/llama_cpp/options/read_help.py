"""The catalogue of a llama-server: asked of itself, and kept until it is another one."""

import errno
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from infer_dev.llama_cpp.options.catalogue import Catalogue
from infer_dev.llama_cpp.options.identity import identity
from infer_dev.llama_cpp.options.store import keep, recall
from infer_dev.settings import NOT_INHERITED, NOT_INHERITED_PREFIXES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from infer_dev.llama_cpp.options.ask import Answer

DEADLINE_S = 10.0
NO_INTERPRETER = "the interpreter that its first line names, or its loader, is not here"
_VERSION = re.compile(r"version: (.+)")
_LIBRARY = re.compile(r"error while loading shared libraries: ([^\s:]+): (.+)")
_SHOWN_CHARACTERS = 200
_LASTING = frozenset(
    {errno.ENOEXEC, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.EINVAL}
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why there is no catalogue.

    Attributes:
        reason: as it continues "cannot read the options of PATH: ".
        is_foreign: it runs, but is no llama-server as far as its help tells.
        is_unusable: no instance can be started with it either.
    """

    reason: str
    is_foreign: bool = False
    is_unusable: bool = False


FOREIGN = Unreadable("its --help is not that of a llama-server", is_foreign=True)


def read_catalogue(
    binary: str, env: Mapping[str, str], *, cache: str, deadline_s: float = DEADLINE_S
) -> Catalogue | Unreadable:
    """The options of `binary`; from the cache where it is the same file as then.

    Args:
        binary: path of a llama-server.
        env: the environment of an instance (`help_environment`).
        cache: folder (`settings.cache_dir`), or "".
        deadline_s: how long it may take to tell, in seconds.
    """
    try:
        key = identity(binary, env.get("LD_LIBRARY_PATH", ""))
    except (OSError, ValueError) as err:
        return _cannot_run(err)
    # A program that is no llama-server is kept as well: as a catalogue without options.
    catalogue = recall(cache, key)
    if catalogue is None:
        asked = _ask(binary, env, deadline_s)
        if isinstance(asked, Unreadable):
            return asked
        catalogue = asked
        keep(cache, key, catalogue)
    return catalogue if catalogue.is_llama_server else FOREIGN


def help_environment(instance: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment in which to ask.

    That of the instance, without options (a bad one would keep the help from being printed) and without GPUs (to find
    one takes time and memory).

    Args:
        instance: what is set for the instance (`Command.env`).
        inherited: what it inherits.
    """
    env = {
        name: value
        for name, value in {**inherited, **instance}.items()
        if name not in NOT_INHERITED and not name.startswith(NOT_INHERITED_PREFIXES)
    }
    return {**env, "CUDA_VISIBLE_DEVICES": ""}


def _ask(binary: str, env: Mapping[str, str], deadline_s: float) -> Catalogue | Unreadable:
    # Seldom needed, as a catalogue is kept: the daemon imports this module.
    from infer_dev.llama_cpp.options.ask import ask  # noqa: PLC0415
    from infer_dev.llama_cpp.options.help import parse_help  # noqa: PLC0415

    try:
        answer = ask([binary, "--help"], env, deadline_s)
        catalogue = parse_help(answer.output)
        if not catalogue.is_llama_server:
            # One that fails may not fail the next time; one that says something else is something else.
            return Catalogue(()) if answer.status == 0 else _failure(answer, deadline_s)
        told = ask([binary, "--version"], env, deadline_s)
    except FileNotFoundError:  # it is there, by `identity`
        return Unreadable(f"it cannot be run: {NO_INTERPRETER}", is_unusable=True)
    except (OSError, ValueError) as err:
        return _cannot_run(err)
    version = _VERSION.search(told.output) or _VERSION.search(told.errors)
    return Catalogue(catalogue.options, version[1] if version else "", is_complete=catalogue.is_complete)


def _cannot_run(err: OSError | ValueError) -> Unreadable:
    number = err.errno if isinstance(err, OSError) else errno.EINVAL
    reason = err.strerror if isinstance(err, OSError) else str(err)
    # Others, as too little memory, pass.
    return Unreadable(f"it cannot be run: {reason}", is_unusable=number in _LASTING)


def _failure(answer: "Answer", deadline_s: float) -> Unreadable:
    if answer.status is None:
        return Unreadable(f"its --help has not ended within {deadline_s:g} s")
    if found := _LIBRARY.search(answer.errors):
        why = found[2][:_SHOWN_CHARACTERS]
        return Unreadable(
            f"it cannot be run: the library {found[1]} is missing or unusable ({why})", is_unusable=True
        )
    if answer.status < 0:
        return Unreadable(f"its --help was ended by {_signal_name(-answer.status)}")
    lines = answer.errors.strip().splitlines() or answer.output.strip().splitlines()
    said = f": {lines[-1].strip()[:_SHOWN_CHARACTERS]}" if lines else ""
    return Unreadable(f"its --help exits with status {answer.status}{said}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"
