"""What a person asks for by a key: each act asks the API, and asks the person first where something would end."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.text import Text

from infer_dev.api.client import caller_request, instance_target
from infer_dev.dashboard.link import Link, understood
from infer_dev.dashboard.models import choices_of
from infer_dev.dashboard.picker import Choice
from infer_dev.dashboard.picture import Instance, Picture
from infer_dev.errors import InferDevError
from infer_dev.host.printable import printable, printable_line

CHECK_TIMEOUT_S = 120.0
PlanLines = Callable[[Mapping[str, Any]], list[str]]  # Any: JSON


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

    async def plan(self, picture: Picture) -> Text:
        """What a reload would do, file by file; also why that cannot be told."""
        text = Text()
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
        text.rstrip()
        return text

    def _asked(self, path: str) -> Mapping[str, object]:
        if self._link.place.is_here:
            return caller_request(path, os.environ)
        return {"config": path, "overrides": None, "search_path": ""}  # what is set here says nothing of over there

    async def reload(self) -> str:
        """Read all files that are up again; what was changed."""
        answer = await self._link.post("/reload")
        told = []
        with understood("/reload"):
            for path, result in answer["files"].items():
                changed = [f"{len(names)} {word}" for word, names in result["changes"].items() if names]
                told.append(f"{os.path.basename(path)}: {', '.join(changed) or 'no instances'}")
        return printable("\n".join(told) or "no file is up")

    async def check(self, path: str) -> str:
        """What `infer-dev check FILE` says; it has to run where the files are."""
        if not self._link.place.is_here:
            return f"cannot check from another machine: run `infer-dev check {printable_line(path)}` there"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "infer_dev", "check", path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                said, _ = await process.communicate()
        except TimeoutError:
            return f"cannot wait longer for the check: run `infer-dev check {printable_line(path)}`"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return printable(said.decode(errors="replace")).strip() or "nothing is wrong"


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
