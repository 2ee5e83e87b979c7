"""Keeps instances in the state they are wanted in. See docs/architecture.md for how the parts fit."""
