"""The options of an instance: read as its binary reads them, and what is wrong with them."""
