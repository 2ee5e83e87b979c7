"""The command line: parse, call the daemon, render."""
