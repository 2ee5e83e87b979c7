"""How long to wait before a restart. Pure."""

STEPS = 5
JITTER = 0.1


def delay_s(attempt: int, *, first_s: float, longest_s: float, jitter: float) -> float:
    """Seconds before restart number `attempt` (from 0) in a row.

    Grows geometrically from `first_s` to `longest_s` in STEPS steps, as systemd.service(5) has it for
    RestartSteps; then up to a tenth is added, so that instances that died together do not load together.

    Args:
        attempt: failures in a row before this one.
        first_s: delay of attempt 0.
        longest_s: delay from attempt STEPS on.
        jitter: a random number from [0, 1).
    """
    step = min(attempt, STEPS) / STEPS
    return float(first_s * (longest_s / first_s) ** step * (1 + JITTER * jitter))
