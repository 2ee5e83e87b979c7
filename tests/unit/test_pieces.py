"""A log in pieces: nothing of it depends on how the network cuts it."""

from collections.abc import Iterator

import pytest

from infer_dev.api.pieces import REMOVED, Ended, end, piece, pieces_of
from infer_dev.errors import InferDevError

OLDEST = -(1 << 62)
SENT = piece(0, OLDEST, b"") + piece(0, 7, b"end x\n1") + piece(1, 9, b"\n\n")
READ = [(f"0:{OLDEST}", b""), ("0:7", b"end x\n1"), ("1:9", b"\n\n")]


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_pieces_come_as_they_were_sent_however_they_are_cut(size: int) -> None:
    found = pieces_of(cut(SENT + end(REMOVED), size))
    assert [next(found) for _ in READ] == READ
    with pytest.raises(Ended, match=REMOVED):
        next(found)


def test_piece_cut_off_by_the_end_of_a_daemon_is_left_out() -> None:
    for length in range(len(SENT)):
        whole = list(pieces_of([SENT[:length]]))
        assert whole == READ[: len(whole)]
        assert len(whole) < len(READ)


@pytest.mark.parametrize("answer", [b"srv  load_model\n", b"1 2\n", b"1 -2 -3\n", b"x" * 1000, b"\xff 1 1\n"])
def test_answer_that_is_no_such_stream_is_an_error(answer: bytes) -> None:
    with pytest.raises(InferDevError, match="cannot understand"):
        list(pieces_of([answer]))
