"""The parser of event streams: any stream, cut anywhere, gives the same events."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer_dev.chat.errors import AnswerError
from infer_dev.chat.sse import Event, SseParser

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=20)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])
EVENT = st.tuples(st.sampled_from(["", "error", "naïve"]), st.lists(LINE, min_size=1, max_size=3))
COMMENT = st.sampled_from([":", ": ping", ":data: no", "id: 7", "retry: 5", "unknown", "unknown: x"])


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def parsed(pieces: list[bytes]) -> list[Event]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@given(st.lists(st.tuples(EVENT, st.lists(COMMENT, max_size=2))), st.data(), st.booleans())
def test_any_stream_cut_anywhere_gives_its_events(
    events: list[tuple[tuple[str, list[str]], list[str]]], data: st.DataObject, bom: bool
) -> None:
    text: str = "\ufeff" if bom else ""
    expected = []
    for (name, lines), comments in events:
        wire = [*comments, *([f"event: {name}"] if name else []), *(f"data: {line}" for line in lines), ""]
        for line in wire:
            end = data.draw(ENDS)
            # A lone CR and the LF of an empty line would be one line end.
            text += line + ("\r\n" if text.endswith("\r") and not line and end == "\n" else end)
        expected.append(Event(name or "message", "\n".join(lines)))
    stream = text.encode()
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=12))
    whole = parsed([stream] if stream else [])
    assert parsed(pieces_of(stream, cuts)) == whole
    assert parsed([bytes([octet]) for octet in stream]) == whole
    assert whole == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_cut_anywhere_give_the_same_events(stream: bytes, cuts: list[int]) -> None:
    assert parsed(pieces_of(stream, cuts)) == parsed([stream])


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data\n\n", [""]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b": ping\n\ndata: a\n\n", ["a"]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"event: x\n\ndata: a\n\n", ["a"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        ("data: grüß\n\n".encode(), ["grüß"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"error: a\n\n", ["a"]),
    ],
)
def test_stream_is_read_as_the_standard_says(stream: bytes, data: list[str]) -> None:
    assert [event.data for event in parsed([stream])] == data


def test_event_longer_than_the_limit_is_refused() -> None:
    parser = SseParser(limit_bytes=100)
    for _ in range(100):
        parser.feed(b"x")
    with pytest.raises(AnswerError, match="longer"):
        parser.feed(b"x")


def test_event_of_many_lines_longer_than_the_limit_is_refused() -> None:
    parser = SseParser(limit_bytes=100)
    with pytest.raises(AnswerError, match="longer"):
        parser.feed(b"data: 123456789\n" * 20)


def test_comments_without_end_take_no_memory() -> None:
    parser = SseParser(limit_bytes=100)
    for _ in range(1000):
        assert parser.feed(b": ping\n\n") == []
