import pytest

from infer_dev.supervisor.backoff import JITTER, STEPS, delay_s


def test_delay_grows_geometrically_to_the_longest() -> None:
    ladder = [delay_s(attempt, first_s=1, longest_s=32, jitter=0) for attempt in range(STEPS + 2)]
    assert ladder == pytest.approx([1, 2, 4, 8, 16, 32, 32])


def test_jitter_adds_at_most_a_tenth() -> None:
    assert delay_s(0, first_s=10, longest_s=60, jitter=0.999) <= 10 * (1 + JITTER)
    assert delay_s(0, first_s=10, longest_s=60, jitter=0.5) == pytest.approx(10 * (1 + JITTER / 2))
