"""Which records a printed number comes from."""
