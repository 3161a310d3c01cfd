"""What `results/tracks/` holds: runs on corrupted test images, and what a track does to a data set."""
