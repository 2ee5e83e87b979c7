"""infer-dev: runs several llama.cpp servers from one TOML file and keeps them alive."""

__version__ = "0.1.0"
