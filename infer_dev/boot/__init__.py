"""The container's entry: starts the command, keeps one daemon alive, reaps every orphan. See docs/boot.md.

It is the one process that must not die, so it stays small: one thread, no asyncio (which alone takes 6.5 MB), no
`typing`, `dataclasses`, `subprocess`, `logging` (each of them 1 to 2 MB).
"""
