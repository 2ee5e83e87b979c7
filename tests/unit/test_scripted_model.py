"""The model that says what it was told to: what it cannot be told."""

from pathlib import Path

import pytest

from tests.parts import scripted_model


@pytest.mark.parametrize(
    "scripts", [{"^": " ".join(map(str, range(600)))}, {"^": "up ^ there"}, {"^": "one~", "~": "two"}]
)
def test_script_that_no_model_can_say_is_refused(tmp_path: Path, scripts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot script"):
        scripted_model.write(tmp_path / "model.gguf", scripts, "")
    assert not list(tmp_path.iterdir())
