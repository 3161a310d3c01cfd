"""What is drawn, and how each figure looks."""
