"""Is it what it says: a model, a machine, a store, a contribution, a re-run."""
