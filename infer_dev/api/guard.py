"""Who may ask over TCP. The unix socket needs none of this: its mode keeps others away.

What is kept out: other users of this machine (a token, where one is set), pages in the user's own browser. A page can
have the browser send requests here: to this address, or to a name that its own name server has just made one of this
machine (DNS rebinding). It can forge neither `Host` nor `Origin`, and cannot read an answer that does not allow it:
there are no CORS headers here. See OWASP's cheat sheet on CSRF, and RFC 9110, 7.4, for 421.
"""

import hmac
import re

import h11

from infer_dev.api.refusals import ForbiddenError, MediaTypeError, MisdirectedError, UnauthorizedError
from infer_dev.config.loopback import is_loopback

SAFE_METHODS = (b"GET", b"HEAD", b"OPTIONS")
# A file names the programs that are run: whoever may bring one up may run anything as the daemon's user.
# A check runs it for its --help, and tells of any file what stands where.
NEED_A_TOKEN = (b"/up", b"/plan", b"/check")
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/]+))(?::[0-9]*)?")
PLAIN_BODIES = (b"", b"application/x-www-form-urlencoded")
OF_PAGES = (b"origin", b"referer", b"cookie", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="infer-dev"'}


class Guard:
    """Lets requests of one TCP listener pass, or says why not."""

    def __init__(self, host: str, token: str | None) -> None:
        """Guard what listens on `host`; without `token` everybody who can reach it may ask."""
        self._host = host.lower()
        self._token = None if token is None else token.encode()

    def __call__(self, head: h11.Request) -> None:
        """Look at a request before its body is read.

        Raises:
            HttpError: it is refused.
        """
        host = _values(head, b"host")
        self._refuse_host(host)
        _refuse_origin(head, host)
        if self._token is not None:
            _refuse_token(_values(head, b"authorization"), self._token)
        elif head.target.partition(b"?")[0] in NEED_A_TOKEN:
            raise ForbiddenError(
                "cannot use a file: over TCP that needs a token, for a file says which programs are run",
                hint="set master.api_token_file, or ask on the unix socket",
            )
        if head.method not in SAFE_METHODS and _has_body(head):
            kind = b",".join(_values(head, b"content-type")).partition(b";")[0].strip().lower()
            # Without headers that only browsers send, it is a program: `curl -d` says it sends a form.
            if kind != b"application/json" and (
                kind not in PLAIN_BODIES or any(_values(head, one) for one in OF_PAGES)
            ):
                raise MediaTypeError(
                    "cannot read the request: its body is no JSON", hint="Content-Type: application/json"
                )

    def _refuse_host(self, hosts: list[bytes]) -> None:
        """With a token any name will do: a page that rebinds a name does not have the token."""
        if self._token is not None:
            return
        name = _name_in(hosts[0].decode("latin-1")) if len(hosts) == 1 else ""
        if not is_loopback(name) and name.lower() != self._host:
            raise MisdirectedError(
                f"cannot answer for host {name!r}",
                hint="ask http://127.0.0.1:PORT; other names need master.api_token_file",
            )


def _refuse_origin(head: h11.Request, hosts: list[bytes]) -> None:
    own = [b"http://" + host.lower() for host in hosts]
    for origin in _values(head, b"origin"):
        if origin.lower() not in own:
            raise ForbiddenError(
                f"cannot answer a page of {origin.decode('latin-1')!r}",
                hint="pages of other origins are not answered",
            )
    is_foreign = any(site in (b"cross-site", b"same-site") for site in _values(head, b"sec-fetch-site"))
    if is_foreign and _values(head, b"sec-fetch-mode") != [b"navigate"]:  # a link that somebody follows is all right
        raise ForbiddenError("cannot answer a page of another origin")


def _refuse_token(given: list[bytes], token: bytes) -> None:
    scheme, _, sent = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not sent:
        raise UnauthorizedError(
            "cannot answer without a token", hint="send it along: Authorization: Bearer TOKEN", headers=CHALLENGE
        )
    if not hmac.compare_digest(sent.strip(), token):
        raise UnauthorizedError(
            "cannot answer: the token is wrong",
            hint="it is that of master.api_token or api_token_file",
            headers={"WWW-Authenticate": f'{CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'},
        )


def _has_body(head: h11.Request) -> bool:
    lengths = _values(head, b"content-length")
    return bool(_values(head, b"transfer-encoding")) or any(length.strip(b"0") for length in lengths)


def _values(head: h11.Request, name: bytes) -> list[bytes]:
    return [value for key, value in head.headers if key == name]


def _name_in(host: str) -> str:
    """A `Host` header without its port; an IPv6 address without its brackets; "" if it is none of these."""
    found = HOST.fullmatch(host)
    return (found[1] or found[2]) if found else ""
