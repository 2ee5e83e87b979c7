"""Memory of this host and of this container: what is left, when it is given back, whom its lack ends."""
