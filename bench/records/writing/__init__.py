"""How files get onto the disk and stay whole: locks, several replaced together, sweeps, frames."""
