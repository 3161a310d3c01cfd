"""This computer and its processes: provenance, forking, what a fork server imports."""
