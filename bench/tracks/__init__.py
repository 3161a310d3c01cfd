"""Evidence beside the official test: TOML files and their schema, frozen and digested."""
