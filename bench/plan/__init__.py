"""Which runs a selection means, how they stand, what they should cost."""
