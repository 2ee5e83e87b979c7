"""The commands that talk to a model: `chat`, `bench`."""
