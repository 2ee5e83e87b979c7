"""Tests, and the real parts (`tests.parts`) that they, the demo and the benchmarks run on."""
