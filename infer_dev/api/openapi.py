"""`GET /openapi.json`: the API as an OpenAPI 3.1 document, made of the models when it is first asked for."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infer_dev import __version__
from infer_dev.api.http import Request, Response

if TYPE_CHECKING:  # pydantic is not imported before somebody asks
    from pydantic import BaseModel

Document = dict[str, Any]  # Any: JSON
PATTERN_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "an instance's name",
}
JSON, TEXT, SSE = "application/json", "text/plain", "text/event-stream"
# Each event of a stream; OpenAPI 3.1 has no word for that.
SSE_EVENT: Document = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["data"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A key of a query."""

    name: str
    about: str
    schema: Document = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `body` and `reply` are names in `api.models`; without `reply` the answer is of `kinds`."""

    about: str
    query: Sequence[Query] = ()
    body: str = ""
    reply: str = ""
    kinds: Sequence[str] = (JSON,)


FLAG: Document = {"type": "string", "enum": ["0", "1"]}
COUNT: Document = {"type": "integer", "minimum": 0, "maximum": 10**14}
OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/healthz"): Operation(about="The daemon lives", reply="Health"),
    ("GET", "/status"): Operation(
        about="The daemon and its instances",
        query=(
            Query(name="name", about="some of them, joined by commas"),
            Query(name="log_line", about="1: with the latest line of each log", schema=FLAG),
            Query(name="host", about="1: with the machine and its GPUs", schema=FLAG),
        ),
        reply="StatusReply",
    ),
    ("GET", "/models"): Operation(about="What can be run", reply="ModelsReply"),
    ("GET", "/events"): Operation(
        about="What happened, and what happens: server-sent events",
        query=(
            Query(name="after", about="those after this id; the header Last-Event-ID wins", schema=COUNT),
            Query(name="follow", about="0: end with the latest", schema=FLAG),
            Query(name="kind", about="only these kinds, joined by commas"),
        ),
        kinds=(SSE,),
    ),
    ("GET", "/logs/{name}"): Operation(
        about="An instance's log, as it was written",
        query=(
            Query(name="tail", about="its last lines", schema=COUNT),
            Query(name="follow", about="1: and what comes", schema=FLAG),
            Query(name="pieces", about="1: in pieces, each with its position", schema=FLAG),
            Query(name="at", about="what comes after this position"),
        ),
        kinds=(TEXT,),
    ),
    ("GET", "/metrics"): Operation(
        about="Figures for Prometheus, those of the llama-servers among them",
        kinds=(TEXT, "application/openmetrics-text"),
    ),
    ("GET", "/openapi.json"): Operation(about="This document"),
    ("POST", "/up"): Operation(about="Make a file's instances run as it says", body="UpBody", reply="UpReply"),
    ("POST", "/plan"): Operation(about="What /up would do; nothing is done", body="UpBody", reply="PlanReply"),
    ("POST", "/check"): Operation(
        about="What is wrong with a file, by all that can be known before it runs",
        body="CheckBody",
        reply="CheckReply",
    ),
    ("POST", "/reload"): Operation(
        about="Read files again, change only what differs", body="ReloadBody", reply="ReloadReply"
    ),
    ("POST", "/down"): Operation(
        about="Stop a file's instances, or everything and the daemon", body="DownBody", reply="DownReply"
    ),
    ("POST", "/handover"): Operation(
        about="The daemon leaves, the instances stay for the next", body="NoBody", reply="HandoverReply"
    ),
    ("POST", "/instances/{name}/start"): Operation(about="Start it", body="NoBody", reply="ActionReply"),
    ("POST", "/instances/{name}/stop"): Operation(
        about="Stop it; answers once it is at rest", body="NoBody", reply="ActionReply"
    ),
    ("POST", "/instances/{name}/restart"): Operation(
        about="Give it a new process", body="NoBody", reply="ActionReply"
    ),
    ("POST", "/switch"): Operation(
        about="Make an instance the one that runs in its group, proven by a completion",
        query=(Query(name="stream", about="1: server-sent events, a phase each, the receipt last", schema=FLAG),),
        body="SwitchBody",
        reply="Receipt",
        kinds=(JSON, SSE),
    ),
    ("POST", "/switch/cancel"): Operation(
        about="Call a switch off that has changed nothing yet", body="CancelBody", reply="CancelReply"
    ),
}


class OpenApi:
    """The document; `routes` gives method and pattern of what there is."""

    def __init__(self, routes: Callable[[], Sequence[tuple[str, str]]]) -> None:
        self._routes = routes
        self._made = b""

    async def answer(self, _: Request) -> Response:
        """The document. The first one takes a moment, in a thread."""
        self._made = self._made or await asyncio.to_thread(lambda: json.dumps(document(self._routes())).encode())
        return Response(self._made)


def document(routes: Sequence[tuple[str, str]]) -> Document:
    """OpenAPI 3.1 of these routes.

    Raises:
        KeyError: one is not described here.
    """
    from pydantic.json_schema import models_json_schema  # noqa: PLC0415 - see above

    from infer_dev.api import models  # noqa: PLC0415 - as above

    operations = {route: OPERATIONS[route] for route in routes}
    bodies = {one.body for one in operations.values()} - {""}
    replies = {one.reply for one in operations.values()} - {""} | {"Problem"}
    wanted: list[tuple[type[BaseModel], Any]] = [  # Any: pydantic's words for the mode
        *((getattr(models, name), "validation") for name in sorted(bodies)),
        *((getattr(models, name), "serialization") for name in sorted(replies)),
    ]
    references, schemas = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
    by_name = {model.__name__: reference for (model, _), reference in references.items()}
    paths: Document = {}
    for (method, path), operation in operations.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation, by_name)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "infer-dev",
            "version": __version__,
            "description": "Runs llama-servers from TOML files. Errors are problem documents (RFC 9457). "
            "Over TCP a token is needed where one is set, and always for /up, /plan and /check.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(method: str, path: str, operation: Operation, references: Document) -> Document:
    parts = [part.strip("{}") for part in path.split("/") if part]
    name = [PATTERN_NAME] if "{name}" in path else []
    query = [
        {"name": one.name, "in": "query", "schema": one.schema, "description": one.about} for one in operation.query
    ]
    schema: Document = references[operation.reply] if operation.reply else {}
    kinds = {
        kind: {"schema": {JSON: schema, SSE: SSE_EVENT}.get(kind, {"type": "string"})} for kind in operation.kinds
    }
    problem = {
        "description": "what went wrong",
        "content": {"application/problem+json": {"schema": references["Problem"]}},
    }
    told: Document = {
        "operationId": "_".join([method.lower(), *parts]).replace(".", "_"),
        "summary": operation.about,
        "parameters": [*name, *query],
        "responses": {
            "200": {"description": operation.about, "content": kinds},
            "4XX": problem,
            "5XX": problem,
        },
    }
    if operation.body:
        needed = operation.body in ("UpBody", "CheckBody", "SwitchBody", "CancelBody")
        told["requestBody"] = {"required": needed, "content": {JSON: {"schema": references[operation.body]}}}
    return told
