"""Estimates beside what the real llama-server reports, for models whose weights are zero."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Parts
from tests.parts import architectures, hollow_model
from tests.parts.load_report import CASES, MIB, estimated, reported

TOLERANCE = 0.1
OF_A_BUFFER = 0.12
"""Of compute buffers."""
OF_A_DELTA_NET = 0.25
"""Its chunks are laid out with more holes than the formula has; the experts of real models are wider than these."""


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes each model once."""
    folder = tmp_path_factory.mktemp("models")

    def one(name: str) -> Path:
        path = folder / f"{name}.gguf"
        if not path.exists():
            hollow_model.write(path, architectures.named()[name])
        return path

    return one


@pytest.mark.real
@pytest.mark.parametrize(("model", "options"), CASES, ids=lambda one: "-".join(one) if isinstance(one, dict) else one)
def test_estimate_is_close_to_what_the_server_reports(parts: Parts, tmp_path: Path, model_of, model, options):
    path = model_of(model)
    told = estimated(path, options).host
    report = reported(parts.server, path, options, tmp_path)

    assert told.total / MIB == pytest.approx(report.total, rel=TOLERANCE)
    assert told.weights / MIB == pytest.approx(report.weights, rel=0.01)
    assert told.cache / MIB == pytest.approx(report.cache, rel=0.01, abs=0.02)
    assert told.output / MIB == pytest.approx(report.output, rel=0.05, abs=0.01)
    of_a_buffer = OF_A_DELTA_NET if model == "qwen3next" else OF_A_BUFFER
    assert told.compute / MIB == pytest.approx(report.compute, rel=of_a_buffer)
