"""The options of a llama-server, as its own `--help` lists them, and a command line read by that list."""
