"""Which server `chat` and `bench` talk to."""

from __future__ import annotations

import os
import time

from infer_dev.chat import BlockingLlamaCppClient, ChatError, NotRunningError
from infer_dev.chat.instance import find, instances
from infer_dev.errors import NotFoundError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# As llama-server itself and its other clients call it.
KEY_VAR = "LLAMA_API_KEY"
LISTENS_RETRY_S = 0.25


def chosen_address(name: str | None, url: str | None, timeout_s: float) -> tuple[str, str]:
    """What to call the server, and where it is.

    Args:
        name: an instance or its alias; None: the only one that is ready.
        url: any server, instead.
        timeout_s: how long to wait for an instance that is being started to listen at its address.

    Raises:
        UsageError: both are given; or neither, and there is a choice.
        InferDevError: as `infer_dev.chat.instance.find`.
    """
    if name and url:
        raise UsageError("cannot talk to two servers: give NAME or --url", hint="see `infer-dev chat --help`")
    if url:
        return url, url
    if name:
        return _listening(name, timeout_s)
    ready = [one for one in instances() if one.is_ready and one.url]
    if not ready:
        raise NotFoundError("cannot choose an instance: none is ready", hint="see `infer-dev status`")
    if len(ready) > 1:
        names = ", ".join(one.name for one in ready)
        raise UsageError(f"cannot choose an instance: several are ready: {names}", hint="name one")
    return ready[0].name, ready[0].url


def _listening(name: str, timeout_s: float) -> tuple[str, str]:
    """An instance that has come so far that it can say itself that it is loading; the GPU driver may take seconds."""
    patience = time.monotonic() + timeout_s
    while (found := find(name)).is_starting and time.monotonic() < patience:
        try:
            with BlockingLlamaCppClient(found.url, timeout_s=timeout_s) as client:
                client.health_check()
        except NotRunningError:
            time.sleep(LISTENS_RETRY_S)
        except ChatError:  # for who asks it next
            break
        else:
            break
    return found.name, found.url


def key_of(environ: Mapping[str, str] = os.environ) -> str | None:
    """The API key to send; not an option, for command lines are seen by all users of a machine."""
    return environ.get(KEY_VAR) or None


def blocking_client(address: str, timeout_s: float) -> BlockingLlamaCppClient:
    """The client of a server, with the user's key. It waits as long for a model that loads as for an answer."""
    return BlockingLlamaCppClient(address, key_of(), timeout_s, load_wait_s=timeout_s)
