"""What a sweep over a grid file leaves: every trial, and the choice."""
