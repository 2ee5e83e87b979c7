"""What is kept of a switch in the runtime directory: the one under way, and the latest receipt."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infer_dev.settings import SWITCH_NAME
from infer_dev.supervisor.switch.receipt import Note, note_from_json, note_to_json

log = logging.getLogger(__name__)

FORMAT = 1
FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Kept:
    """What was found.

    Attributes:
        note: the switch under way when the daemon before ended.
        receipt: the latest one, as JSON.
    """

    note: Note | None = None
    receipt: Mapping[str, Any] | None = None  # Any: JSON


class SwitchStore:
    """One file, written by rename. What cannot be written is told in the log, and stops nothing."""

    def __init__(self, runtime: str, life_id: str) -> None:
        self._path = os.path.join(runtime, SWITCH_NAME)
        self._life_id = life_id

    def save(self, note: Note | None, receipt: Mapping[str, Any] | None) -> None:  # Any: JSON
        """Save both, in place of what was saved before."""
        document = {
            "format": FORMAT,
            "life_id": self._life_id,
            "note": note_to_json(note) if note else None,
            "receipt": receipt,
        }
        new = f"{self._path}.new"
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(document, file)
            os.rename(new, self._path)
        except OSError as err:
            log.error("cannot save the switch to %s: %s", self._path, err.strerror)  # noqa: TRY400 - the message tells all

    def load(self) -> Kept:
        """What the daemon before left. What cannot be understood, or is of an earlier life, is passed over."""
        try:
            with open(self._path, "rb") as file:
                found = json.loads(file.read())
            if found["format"] != FORMAT or found["life_id"] != self._life_id:
                return Kept()
            note, receipt = found["note"], found["receipt"]
            if receipt is not None and not isinstance(receipt, dict):
                return Kept()
            return Kept(note_from_json(note) if note else None, receipt)
        except FileNotFoundError:
            return Kept()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            log.error("cannot use the saved switch %s: %r", self._path, err)  # noqa: TRY400 - ours, no trace
            return Kept()
