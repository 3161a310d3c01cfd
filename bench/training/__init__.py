"""Train and val arrays and one protocol -> weights; never handed test data."""
