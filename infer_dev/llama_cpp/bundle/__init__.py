"""Bundles: archives of a llama.cpp server with its libraries, unpacked safely and made reproducibly."""
