"""GGUF files: what their headers say, told without touching the weights."""
