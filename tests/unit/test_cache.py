"""Documents kept from run to run."""

import os
from pathlib import Path

from infer_dev.cache import Shelf


def test_shelf_gives_back_what_was_kept_and_knows_no_other(tmp_path: Path) -> None:
    shelf, other = Shelf("a", most=3, most_bytes=1000), Shelf("b", most=3, most_bytes=1000)
    folder = str(tmp_path / "deep" / "cache")
    shelf.keep(folder, "k", {"x": [1, "ä"]})
    assert shelf.recall(folder, "k") == {"x": [1, "ä"]}
    assert other.recall(folder, "k") is shelf.recall(folder, "j") is shelf.recall("", "k") is None


def test_oldest_of_its_kind_make_room(tmp_path: Path) -> None:
    shelf, other = Shelf("a", most=3, most_bytes=1000), Shelf("b", most=3, most_bytes=1000)
    folder = tmp_path / "cache"
    other.keep(str(folder), "old", 1)
    os.utime(folder / "b-old.json", (1, 1))
    for number in range(6):
        shelf.keep(str(folder), str(number), number)
        os.utime(folder / f"a-{number}.json", (10 + number, 10 + number))
    assert sorted(path.name for path in folder.iterdir()) == ["a-3.json", "a-4.json", "a-5.json", "b-old.json"]


def test_document_too_large_or_too_old_is_not_read(tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    Shelf("a", most=3, most_bytes=1000).keep(folder, "k", "x" * 50)
    assert Shelf("a", most=3, most_bytes=20).recall(folder, "k") is None
    os.utime(tmp_path / "cache" / "a-k.json", (1, 1))
    assert Shelf("a", most=3, most_bytes=1000, most_age_s=60).recall(folder, "k") is None
    assert Shelf("a", most=3, most_bytes=1000).recall(folder, "k") == "x" * 50
