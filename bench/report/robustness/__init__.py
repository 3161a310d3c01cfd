"""The track of corrupted test images in a report: drops, comparisons, table and figures."""
