"""Seconds and memory of a model, measured in processes of their own."""
