"""A run on corrupted test images: scored as it ends, or after the fact by weights that are proved to be its own."""
