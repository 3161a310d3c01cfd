"""The page that shows everything together."""
