"""What the daemon answers: each route asks the supervisor and puts its answer into JSON."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from infer_dev import __version__
from infer_dev.api import events
from infer_dev.api.catalog import Catalog, wrapper_keys
from infer_dev.api.check import CheckRoute
from infer_dev.api.http import Request, Response, Router, json_response
from infer_dev.api.log_route import LogRoute, is_count
from infer_dev.api.observe import Observe
from infer_dev.api.openapi import OpenApi
from infer_dev.api.source import KEYS, absolute, source_of
from infer_dev.api.switch import SwitchRoutes
from infer_dev.api.turns import Shared
from infer_dev.check.verdict import Refusal
from infer_dev.errors import UsageError
from infer_dev.host.log import file as logfile
from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Source
from infer_dev.plan.serial import plan_from_json
from infer_dev.supervisor.reading import Asked
from infer_dev.supervisor.supervisor import Supervisor


class Routes:
    """The routes over one supervisor."""

    def __init__(
        self,
        supervisor: Supervisor,
        switching: SwitchRoutes,
        *,
        address: str,
        keeper: str | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._switching = switching
        self._statuses = Shared[Response]()
        self._latest = Shared[Response]()
        self._observe = observe or Observe(supervisor, "")
        self._address = address
        self._keeper = keeper  # who starts another daemon when this one ends: boot, systemd
        self._started = time.monotonic()

    def router(self) -> Router:
        """All routes, for the server."""
        router = Router()
        router.add("GET", "/healthz", self.healthz)
        router.add("GET", "/status", self.status)
        router.add("GET", "/models", Catalog(self._supervisor).models)
        router.add("GET", "/events", self.events)
        router.add("GET", "/logs/{name}", LogRoute(self._supervisor).logs)
        router.add("POST", "/up", self.up)
        router.add("POST", "/plan", self.plan)
        router.add("POST", "/check", CheckRoute(self._supervisor).check)
        router.add("POST", "/reload", self.reload)
        router.add("POST", "/down", self.down)
        router.add("POST", "/handover", self.handover)
        router.add("POST", "/instances/{name}/start", self.start)
        router.add("POST", "/instances/{name}/stop", self.stop)
        router.add("POST", "/instances/{name}/restart", self.restart)
        self._switching.add_to(router)
        self._observe.register(router)
        router.add("GET", "/openapi.json", OpenApi(router.routes).answer)
        return router

    async def healthz(self, _: Request) -> Response:
        """The daemon lives."""
        return json_response({"status": "ok", "pid": os.getpid(), "version": __version__})

    async def status(self, request: Request) -> Response:
        """`status --json`; `?name=a,b`: of some; `?log_line=1`: their latest log line; `?host=1`: the machine."""
        if request.query.get("host") == "1":
            return self._status(request, await self._observe.host(self._supervisor.status()))
        return await self._statuses.get(tuple(sorted(request.query.items())), lambda: self._status(request, {}))

    def _status(self, request: Request, machine: Mapping[str, object]) -> Response:
        names = [name for name in request.query.get("name", "").split(",") if name]
        statuses = self._supervisor.status(names)
        instances = [status.to_json() for status in statuses]
        if request.query.get("log_line"):
            for status, shown in zip(statuses, instances, strict=True):
                lines, _ = logfile.tail(status.log_file, 1)
                shown["log_line"] = lines[0] if lines else ""
        return json_response({"daemon": self._daemon(), **wrapper_keys(statuses), "instances": instances, **machine})

    async def up(self, request: Request) -> Response:
        """Reconcile one file. Answers once what had to go is gone and what had to come has been started."""
        source, asked = _asked(request, self._supervisor.sources)
        result = await self._supervisor.up(source, asked)
        answer = asdict(result)
        answer["states"] = self._states(result.waiting)
        return json_response(answer)

    async def plan(self, request: Request) -> Response:
        """What `/up` with the same body would do; nothing is done."""
        source, asked = _asked(request, self._supervisor.sources)
        intent = await self._supervisor.plan(source, asked.plan)
        return json_response(
            {
                "enabled": intent.plan.enabled,
                "changes": asdict(intent.changes),
                "starting": intent.starting,
                "stopping": intent.ending,
                "differences": {name: [asdict(one) for one in of] for name, of in intent.differences.items()},
            }
        )

    async def reload(self, request: Request) -> Response:
        """Read files that are up again, by default all; only what differs in them is changed."""
        body = request.json({"config": str | None, "check": bool | None})
        config, check = body["config"], body["check"] is not False
        results = await self._supervisor.reload([absolute(config)] if config else [], check=check)
        started = [name for result in results.values() for name in result.started]
        return json_response(
            {
                "files": {path: asdict(result) for path, result in results.items()},
                "last_id": min((result.last_id for result in results.values()), default=0),
                "states": self._states(started),
            }
        )

    async def down(self, request: Request) -> Response:
        """Stop one file's instances, or everything; in the latter case the daemon leaves right after.

        With `unused` nothing is stopped: the daemon leaves if no file is up.
        """
        body = request.json({"config": str | None, "unused": bool | None})
        config = body["config"]
        names: Sequence[str] = ()
        if body["unused"]:
            await self._supervisor.leave_unused()
            if self._supervisor.is_leaving:
                await self._supervisor.wait_left()
        elif config is None:
            names = [status.name for status in self._supervisor.status()]
            self._supervisor.leave()
            await self._supervisor.wait_left()
        else:
            names = await self._supervisor.down(absolute(config))
            await self._supervisor.leave_unused()
            if self._supervisor.is_leaving:
                await self._supervisor.wait_left()
        return json_response({"names": names, "left": self._supervisor.has_left, "pid": os.getpid()})

    async def handover(self, request: Request) -> Response:
        """Leave, and leave the instances to the next daemon."""
        request.json({})
        self._supervisor.hand_over()
        await self._supervisor.wait_left()
        return json_response({"pid": os.getpid(), "keeper": self._keeper})

    async def start(self, request: Request) -> Response:
        """Start one instance; does not wait until it is ready."""
        request.json({})
        name, last_id = request.path["name"], self._supervisor.history.last_id
        await self._supervisor.start([name])
        return json_response({"states": self._states([name]), "last_id": last_id})

    async def stop(self, request: Request) -> Response:
        """Stop one instance; answers once it is at rest."""
        request.json({})
        name, last_id = request.path["name"], self._supervisor.history.last_id
        await self._supervisor.stop([name])
        return json_response({"states": self._states([name]), "last_id": last_id})

    async def restart(self, request: Request) -> Response:
        """Restart one instance; does not wait until it is ready."""
        request.json({})
        name, last_id = request.path["name"], self._supervisor.history.last_id
        await self._supervisor.restart([name])
        return json_response({"states": self._states([name]), "last_id": last_id})

    async def events(self, request: Request) -> Response:
        """Server-sent events from `Last-Event-ID` or `?after=ID` on; `?kind=a,b`; `?follow=0`: what there is."""
        given = request.headers.get("last-event-id") or request.query.get("after", "0")
        if not is_count(given):
            raise UsageError(f"cannot read the request: after: expected an event's id, got {given!r}")
        history, kinds = self._supervisor.history, events.kinds_of(request.query.get("kind", ""))
        if request.query.get("follow") == "0":
            # 2 MiB take 20 ms: many who ask at once must not hold up an instance's restart.
            return await self._latest.get(
                (given, kinds),
                lambda: Response(events.latest(history, int(given), kinds), content_type="text/event-stream"),
            )
        body = events.stream(history, int(given), kinds, ended=lambda: self._supervisor.has_stopped_all)
        return Response(body, content_type="text/event-stream")

    def _states(self, names: Sequence[str]) -> dict[str, str]:
        statuses = self._supervisor.status(names) if names else []
        return {status.name: status.state for status in statuses}

    def _daemon(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "config": ",".join(self._supervisor.sources) or None,
            "api": [self._address, *self._supervisor.door.urls],
            "api_note": self._supervisor.door.note,
            "api_fault": self._supervisor.door.fault,
            "switch": self._switching.status(),
            "requests": self._supervisor.claims.under_way(),
        }


def _asked(request: Request, up: Mapping[str, Source]) -> tuple[Source, Asked]:
    """The file that a request names, and what the caller knows of it already."""
    body = request.json(
        {
            **KEYS,
            "plan": dict | None,
            "check": bool | None,
            "keep_going": bool | None,
            "refused": dict | None,
        }
    )
    source = source_of(body, up)
    try:
        refused = {
            str(name): Refusal(Cause(one["cause"]), str(one["detail"]))
            for name, one in (body["refused"] or {}).items()
        }
        plan = plan_from_json(body["plan"]) if body["plan"] else None
    except (ValueError, KeyError, TypeError) as err:
        raise UsageError(f"cannot read the request: {err}") from err
    check, keep_going = body["check"] is not False, bool(body["keep_going"])
    return source, Asked(plan=plan, check=check, keep_going=keep_going, refused=refused)
