"""Numbers from elsewhere, each with its source."""
