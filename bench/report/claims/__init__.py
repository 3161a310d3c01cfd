"""The claims audit: each of the paper's claims, what it was checked against, and the verdict that a check computes."""
