"""Arrays -> floats: metrics, intervals, comparisons, bootstrap, power. No torch, no files."""
