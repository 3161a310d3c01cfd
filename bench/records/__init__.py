"""What stands in `results/`: schemas, paths, atomic write, read, stale or not."""
