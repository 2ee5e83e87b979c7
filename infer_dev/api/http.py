"""Requests, answers, and which handler a request is for."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from infer_dev.api.refusals import HttpError, MethodError
from infer_dev.errors import InferDevError, NotFoundError, UsageError


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` holds what the route's `{…}` parts matched; `query` the last value of each key."""

    method: str
    target: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """The body as a JSON object with these keys and no others.

        Args:
            keys: name → type (Any: a union does too); one that is absent is None if its type allows that.

        Raises:
            UsageError: it is not JSON, not an object, or a key is unknown, absent or of another type.
        """
        try:
            value = json.loads(self.body) if self.body.strip() else {}
            _refuse_unusable(value)
        except (ValueError, RecursionError) as err:
            raise UsageError(f"cannot read the request: not valid JSON: {err}") from err
        if not isinstance(value, dict):
            raise UsageError("cannot read the request: expected a JSON object")
        if unknown := sorted(set(value) - set(keys)):
            raise UsageError(
                f"cannot read the request: unknown key {unknown[0]!r}", hint=f"known: {', '.join(keys) or 'none'}"
            )
        for key, kind in keys.items():
            if not isinstance(value.get(key), kind):
                raise UsageError(f"cannot read the request: {key}: expected {_name_of(kind)}")
        return {key: value.get(key) for key in keys}


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `body` whole, or in pieces as they come."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: object, status: int = 200) -> Response:
    """`value` as a JSON answer."""
    return Response(_encoded(value), status)


def problem_response(error: InferDevError) -> Response:
    """An error as an `application/problem+json` answer (RFC 9457)."""
    headers = error.headers if isinstance(error, HttpError) else {}
    return Response(_encoded(error.as_problem()), error.http_status, "application/problem+json", headers)


def _encoded(value: object) -> bytes:
    """As JSON. What of a file's name is not UTF-8 becomes an escape of JSON's own."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


Handler = Callable[[Request], Awaitable[Response]]


class Router:
    """Finds the handler of a request by method and path; `{name}` in a pattern matches one part of the path."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, list[str], Handler]] = []

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        self._routes.append((method, pattern.split("/"), handler))

    def routes(self) -> list[tuple[str, str]]:
        """Method and pattern of each route."""
        return [(method, "/".join(pattern)) for method, pattern, _ in self._routes]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler and what its pattern's names matched.

        Raises:
            NotFoundError: no route has this path.
            MethodError: one has, but not with this method.
        """
        parts = path.split("/")
        allowed = []
        for known, pattern, handler in self._routes:
            if len(pattern) != len(parts):
                continue
            matched = {}
            for want, got in zip(pattern, parts, strict=True):
                if want.startswith("{"):
                    matched[want[1:-1]] = unquote(got)
                elif want != got:
                    break
            else:
                if known == method:
                    return handler, matched
                allowed.append(known)
        if allowed:
            headers = {"Allow": ", ".join(allowed)}
            raise MethodError(f"cannot {method} {path}", hint=f"use {' or '.join(allowed)}", headers=headers)
        raise NotFoundError(f"cannot find {path}", hint="the API is described in docs/api.md")


def _name_of(kind: Any) -> str:  # Any: a type or a union of types
    names = {"str": "a string", "dict": "an object", "NoneType": "nothing"}
    kinds = getattr(kind, "__args__", (kind,))
    return " or ".join(names.get(one.__name__, one.__name__) for one in kinds)


def _refuse_unusable(value: object) -> None:
    """Text that no path or argument can hold. Bytes that are not UTF-8 come as Python's surrogates: they can."""
    match value:
        case str():
            if "\0" in value:
                raise UsageError("cannot read the request: a NUL character in a text")
            value.encode(errors="surrogateescape")
        case list():
            for item in value:
                _refuse_unusable(item)
        case dict():
            for key, item in value.items():
                _refuse_unusable(key)
                _refuse_unusable(item)
