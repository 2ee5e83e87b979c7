"""Processes: started, held, marked, ended, and what the kernel tells of them."""
