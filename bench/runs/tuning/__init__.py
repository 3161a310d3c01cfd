"""A sweep: trials trained round by round in processes of their own, on train and val alone."""
