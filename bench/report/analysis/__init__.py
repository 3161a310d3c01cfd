"""Records -> intervals and comparisons, cell by cell."""
