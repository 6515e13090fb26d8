"""Training a model on pairs: its job, its processes, its checkpoints and what it shows of itself."""
