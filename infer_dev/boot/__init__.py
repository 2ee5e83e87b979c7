"""The container's entry: starts the command, keeps one daemon alive, reaps every orphan. See docs/boot.md.

It is the one process that must not die, so it stays small: one thread, no asyncio, few imports (no `typing`,
`dataclasses`, `subprocess`, `logging`; each of them takes a megabyte).
"""
