"""What is shown of states, against the states that there are."""

from rich.style import Style

from infer_dev import states
from infer_dev.supervisor.lifecycle import RUNNING, SETTLED, State


def test_every_state_has_a_style_and_the_main_ones_differ() -> None:
    styles = {state.value: states.state_style(state.value) for state in State}
    assert all(styles.values())
    assert all(Style.parse(style) for style in styles.values())
    assert len({styles[state] for state in ("ready", "starting", "degraded", "failed", "stopped")}) == 5


def test_a_state_of_a_newer_daemon_has_no_style() -> None:
    assert states.state_style("hibernating") == ""


def test_the_words_for_running_and_settled_are_those_of_the_supervisor() -> None:
    assert set(states.RUNNING) == {state.value for state in RUNNING}
    assert set(states.SETTLED) == {state.value for state in SETTLED}
