"""Long runs in which everything goes wrong all the time: `python -m tests.soak --minutes 30`.

Its parts also serve tests/integration: daemons that are killed, a census of processes, a replay of the history.
"""
