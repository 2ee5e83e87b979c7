"""An instance's log: written, moved into parts, read; and the log of the daemon itself."""
