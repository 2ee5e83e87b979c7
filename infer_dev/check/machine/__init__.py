"""This machine, GPUs included, as the instances of a file will meet it."""
