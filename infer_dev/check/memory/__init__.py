"""The memory that instances will need, and what there is of it."""
