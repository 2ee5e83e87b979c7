"""How the command line shows a switch."""

import pytest

from infer_dev.cli.switch import Phases, told

RECEIPT = {"ok": True, "changed": True, "from": "a", "to": "b", "seconds": 3.2, "completion": "hi\n"}


@pytest.mark.parametrize(
    ("live", "shown"),
    [
        (False, "a -> b\n  drain     1.5s\n"),
        (True, "a -> b\n  drain …\r  drain     1.5s\n  ready …\n"),
    ],
)
def test_phases_are_shown_as_they_pass(live: bool, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    phases = Phases(live=live)
    phases.begin({"from": "a", "to": "b", "phase": "drain"})
    phases.end({"phase": "drain", "seconds": 1.5})
    phases.begin({"from": "a", "to": "b", "phase": "ready"})
    phases.close()
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize(
    ("differs", "line"),
    [
        ({}, "b serves instead of a after 3.2s, it says 'hi\\n'"),
        ({"from": None, "completion": None}, "b serves after 3.2s"),
        ({"changed": False}, "b runs already: nothing to do"),
    ],
)
def test_receipt_is_one_line(differs: dict[str, object], line: str) -> None:
    assert told(RECEIPT | differs) == line
