"""A file read and checked for a daemon that is only starting."""

from pathlib import Path

import pytest

from infer_dev.check.ahead import read_ahead
from infer_dev.check.finding import Level
from infer_dev.check.verdict import Verdict, verdict_from_json


@pytest.fixture
def file(tmp_path: Path) -> str:
    server = tmp_path / "llama-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    path = tmp_path / "rack.toml"
    path.write_text(
        f'[master]\nllama_cpp_path = "{server}"\n[instance.a.server]\nmodel = "m"\n'
        "[instance.b.control]\nautostart = false\n[instance.b.server]\nmodel = 'm'\nport = 9\n"
    )
    return str(path)


def test_only_what_starts_by_itself_is_looked_at(file: str) -> None:
    looked: list[list[str]] = []

    def look(_: object, __: object, names: list[str], ___: object) -> Verdict:
        looked.append(names)
        return Verdict()

    read_ahead(file, {}, check=True, look=look)
    read = read_ahead(file, {}, check=False, look=look)
    assert looked == [["a"]]
    assert [spec["name"] for spec in read["plan"]["specs"]] == ["a", "b"]


def test_check_that_goes_wrong_is_a_warning_and_keeps_nothing_from_running(file: str) -> None:
    def look(*_: object) -> Verdict:
        raise ZeroDivisionError("oh")

    verdict = verdict_from_json(read_ahead(file, {}, check=True, look=look)["findings"])
    assert [one.level for one in verdict.findings] == [Level.WARNING]
    assert "ZeroDivisionError: oh" in verdict.findings[0].message
    verdict.refuse(file)
