"""Grad-CAM maps of a run's weights, and whether they agree between models."""
