"""Parameters, and multiply-accumulates by three counters."""
