"""The TOML files and their schema, frozen and digested."""
