"""One run from names to a record, the only place where test is scored; its process; its engine."""
