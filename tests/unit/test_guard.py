"""Which requests over TCP are let through."""

import h11
import pytest

from infer_dev.api.guard import Guard
from infer_dev.api.refusals import HttpError

TOKEN = "a-token"


def status(guard: Guard, method: str = "GET", target: str = "/status", **headers: str | list[str]) -> int:
    """200, or that of the refusal."""
    named = {"host": "127.0.0.1:8081"} | headers
    pairs = [
        (name.replace("_", "-"), value.encode("latin-1"))
        for name, values in named.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    request = h11.Request(method=method, target=target, headers=pairs)
    refusal = refusal_of(guard, request)
    if refusal is None:
        return 200
    assert refusal.message.startswith("cannot ")
    assert ("WWW-Authenticate" in refusal.headers) == (refusal.http_status == 401)
    return refusal.http_status


def refusal_of(guard: Guard, request: h11.Request) -> HttpError | None:
    try:
        guard(request)
    except HttpError as err:
        return err
    return None


OPEN = Guard("127.0.0.1", None)
CLOSED = Guard("0.0.0.0", TOKEN)
BEARER = f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8081", "localhost:11982", "LOCALHOST", "[::1]:8081", "127.0.0.9"]
)
def test_host_of_this_machine_is_answered(host: str) -> None:
    assert status(OPEN, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8081",
            "127.0.0.1.evil.example",
            "192.0.2.1",
            "[fe80::1]",
            "",
            "[",
            "x@localhost",
        ),
        *("[::1].evil.example", "[::1]evil.example:8081", "localhost:evil.example", "localhost/evil.example"),
    ],
)
def test_other_host_is_refused_whatever_the_name_resolves_to(host: str) -> None:
    assert status(OPEN, host=host) == 421
    assert status(OPEN, "POST", "/switch", host=host) == 421


def test_host_the_api_is_bound_to_is_answered() -> None:
    assert status(Guard("Rack", None), host="rack:8081") == 200


def test_host_may_be_any_name_with_a_token() -> None:
    assert status(CLOSED, host="rack.example:8081", authorization=BEARER) == 200
    assert status(CLOSED, host="rack.example:8081") == 401


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:3000",
        "http://127.0.0.1",
        "https://127.0.0.1:8081",
        "http://127.0.0.1:8081.evil.example",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_page_of_another_origin_is_refused(method: str, origin: str) -> None:
    assert status(OPEN, method, origin=origin) == 403
    assert status(CLOSED, method, origin=origin, authorization=BEARER) == 403


def test_page_of_our_own_origin_is_answered() -> None:
    assert status(OPEN, "POST", "/switch", origin="http://127.0.0.1:8081") == 200


def test_page_that_rebinds_a_name_is_refused() -> None:
    assert status(OPEN, host="evil.example:8081", origin="http://evil.example:8081") == 421
    assert status(CLOSED, host="evil.example:8081", origin="http://evil.example:8081") == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_image_in_another_page_is_refused_a_followed_link_is_not(site: str) -> None:
    assert status(OPEN, sec_fetch_site=site, sec_fetch_mode="no-cors") == 403
    assert status(OPEN, sec_fetch_site=site, sec_fetch_mode="navigate") == 200
    assert status(OPEN, sec_fetch_site="none", sec_fetch_mode="navigate") == 200
    assert status(OPEN, sec_fetch_site="same-origin", sec_fetch_mode="cors") == 200


@pytest.mark.parametrize("given", [BEARER, f"bearer {TOKEN}", f"Bearer   {TOKEN}"])
def test_right_token_is_let_in(given: str) -> None:
    assert status(CLOSED, authorization=given) == 200


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xe4",
    ],
)
def test_wrong_token_is_refused(given: str) -> None:
    assert status(CLOSED, authorization=given) == 401


def test_two_tokens_are_refused() -> None:
    assert status(CLOSED, authorization=[BEARER, "Bearer other"]) == 401


@pytest.mark.parametrize("target", ["/up", "/plan", "/check", "/up?x=1"])
def test_file_is_brought_up_over_tcp_only_with_a_token(target: str) -> None:
    """Who may have a file run may run anything as the daemon's user."""
    json_body = {"content_type": "application/json", "content_length": "2"}
    assert status(OPEN, "POST", target, **json_body) == 403
    assert status(CLOSED, "POST", target, authorization=BEARER, **json_body) == 200


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        ({"content_length": "0"}, 200),
        ({}, 200),
        ({"content_length": "2", "content_type": "application/json"}, 200),
        ({"content_length": "2", "content_type": "Application/JSON; charset=utf-8"}, 200),
        ({"content_length": "2"}, 200),
        ({"content_length": "2", "content_type": "text/plain"}, 415),
        ({"content_length": "2", "content_type": "multipart/form-data"}, 415),
        ({"content_length": "2", "content_type": "application/x-www-form-urlencoded"}, 200),
        ({"content_length": "2", "content_type": "application/x-www-form-urlencoded", "referer": "http://x/"}, 415),
        ({"content_length": "2", "sec_fetch_site": "cross-site"}, 403),
        ({"transfer_encoding": "chunked", "cookie": "a=b"}, 415),
    ],
)
def test_body_that_changes_something_has_to_be_json(headers: dict[str, str], want: int) -> None:
    assert status(OPEN, "POST", "/switch", **headers) == want
