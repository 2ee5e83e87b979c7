"""What a person asks for by a key: each act asks the API, and asks the person first where something would end."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from infer_dev.api.client import caller_request, instance_target
from infer_dev.dashboard.findings import MOST, errors_about, page_of
from infer_dev.dashboard.link import Link, understood
from infer_dev.dashboard.models import choices_of
from infer_dev.dashboard.picker import Choice
from infer_dev.dashboard.picture import Instance, Json, Picture
from infer_dev.errors import InferDevError, NotFoundError, UnavailableError
from infer_dev.host.printable import printable, printable_line

CHECK_TIMEOUT_S = 120.0
PlanLines = Callable[[Mapping[str, Any]], list[str]]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a reload would do.

    Attributes:
        text: for people.
        starting: file → names of the instances that would get a new process.
    """

    text: Text
    starting: Mapping[str, Sequence[str]]


class Acts:
    """The requests; what they come to is returned as words."""

    def __init__(self, link: Link, plan_lines: PlanLines) -> None:
        """`plan_lines` puts an answer of `/plan` into words, as `infer-dev plan` does."""
        self._link, self._plan_lines = link, plan_lines

    async def act(self, name: str, action: str) -> str:
        """Start, stop or restart one instance; its state afterwards."""
        answer = await self._link.post(instance_target(name, action))
        with understood(action):
            return f"{name} {answer['states'].get(name, '')}".strip()

    async def models(self, picture: Picture) -> Sequence[Choice]:
        """What can be run, and what `picture` says of whether it fits."""
        answer = await self._link.get("/models", timeout_s=30.0)
        with understood("/models"):
            return choices_of(answer["models"], picture)

    async def plan(self, picture: Picture) -> Outlook:
        """What a reload would do, file by file; also why that cannot be told."""
        text, starting = Text(), {}
        for path in files_of(picture):
            text.append(f"{printable_line(path)}\n", "bold")
            try:
                answer = await self._link.post("/plan", self._asked(path))
                with understood("/plan"):
                    is_on = answer["enabled"]
                    lines = self._plan_lines(answer) if is_on else ["master.enable is false: all of it would stop"]
            except InferDevError as err:
                text.append(f"{printable(err.message)}\n", "red")
                text.append(f"{printable(err.hint)}\n" if err.hint else "", "dim")
                continue
            text.append("".join(f"  {printable_line(line)}\n" for line in lines))
            if names := answer.get("starting") if is_on else ():
                starting[path] = names
        text.rstrip()
        return Outlook(text, starting)

    def _asked(self, path: str) -> Mapping[str, object]:
        if self._link.place.is_here:
            return caller_request(path, os.environ)
        return {"config": path}  # as it was brought up: what is set here says nothing of over there

    async def reload(self) -> str:
        """Read all files that are up again; what was changed."""
        answer = await self._link.post("/reload")
        told = []
        with understood("/reload"):
            for path, result in answer["files"].items():
                changed = [f"{len(names)} {word}" for word, names in result["changes"].items() if names]
                told.append(f"{os.path.basename(path)}: {', '.join(changed) or 'no instances'}")
        return printable("\n".join(told) or "no file is up")

    async def check(self, path: str) -> RenderableType:
        """What `infer-dev check FILE` says where the daemon is, as a page."""
        answer = await self._checked(path)
        with understood("/check"):
            return page_of(answer)

    async def errors(self, outlook: Outlook) -> Text:
        """What a check says against that which a reload would start; also why that cannot be told."""
        text = Text()
        for path, names in outlook.starting.items():
            try:
                answer = await self._checked(path)
                with understood("/check"):
                    errors = errors_about(answer, names)
            except InferDevError as err:
                text.append(f"{printable(err.message)}\n", "dim")
                continue
            if errors:
                count = f"{len(errors)} error{'s' if len(errors) != 1 else ''}"
                text.append(f"the check finds {count} in what would start:\n", "bold red")
            for one in errors[:MOST]:
                text.append("  ").append_text(one).append("\n")
        text.rstrip()
        return text

    async def _checked(self, path: str) -> Json:
        """The answer of `/check`."""
        try:
            return await self._link.post("/check", self._asked(path), timeout_s=CHECK_TIMEOUT_S)
        except NotFoundError as err:  # the route: a file that is not there is another error
            raise UnavailableError(
                "cannot check: the daemon is of an older version",
                hint=f"`infer-dev daemon --replace` gives it this one; or run `infer-dev check {path}`",
            ) from err


def files_of(picture: Picture) -> list[str]:
    """The files that are up."""
    return [path for path in picture.config.split(",") if path]


def ending(one: Instance, action: str) -> Text:
    """What stopping or restarting it takes away."""
    text = Text(f"{one.name} is {one.state}")
    text.append(f", up {int(one.uptime_s)} s" if one.uptime_s is not None else "")
    text.append(f", on port {one.port}" if one.port is not None else "")
    text.append(".\nIts requests end")
    return text.append(" and its model is loaded anew." if action == "restart" else "; it stays stopped.")
