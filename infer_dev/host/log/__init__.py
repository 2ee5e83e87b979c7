"""An instance's log and what rotation makes of it; the daemon's own."""
