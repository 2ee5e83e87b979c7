"""Where a server is: a URL, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infer_dev.chat.conversation import RequestError

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[^/:\[\]\s@?#]+)(?::([0-9]{1,5}))?(/[^\s?#]*)?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535
# Of a name; what is longer, or empty, makes the resolver fail with a UnicodeError.
_LABEL = re.compile(r"[^.]{1,63}")
_SOCKET = "unix:"
# What other clients call the base of the API; here the methods put it in front themselves.
_API_BASE = "/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address.

    Attributes:
        text: as the user gave it, for messages.
        host, port: for TCP.
        path: put in front of every target, without a slash at its end.
        is_tls: whether to speak TLS.
        socket: the path of a unix socket instead, or "".
    """

    text: str
    host: str
    port: int
    path: str = ""
    is_tls: bool = False
    socket: str = ""

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, _DEFAULT_PORTS["https" if self.is_tls else "http"]) else f"{host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint of `http://HOST[:PORT][/PATH]`, https as well, or `unix:PATH`; `/v1` at the end does not matter.

    Raises:
        RequestError: it is none of these.
    """
    if text.startswith(_SOCKET) and len(text) > len(_SOCKET) and "\0" not in text:
        return Endpoint(text, "localhost", 0, socket=text.removeprefix(_SOCKET))
    found = _URL.fullmatch(text)
    port = int(found[3] or _DEFAULT_PORTS[found[1].lower()]) if found else 0
    is_plain = text.isascii() and text.isprintable()  # a NUL would make the resolver fail with a ValueError
    if not found or not 0 < port <= _MAX_PORT or not is_plain or not _is_name(found[2]):
        raise RequestError(
            f"cannot use {text!r} as the address of a llama-server", hint="write it as http://127.0.0.1:8080"
        )
    path = (found[4] or "").rstrip("/").removesuffix(_API_BASE)
    shown = text.rstrip("/")
    return Endpoint(shown, found[2].strip("[]"), port, path, is_tls=found[1].lower() == "https")


def _is_name(host: str) -> bool:
    return host.startswith("[") or all(map(_LABEL.fullmatch, host.removesuffix(".").split(".")))
