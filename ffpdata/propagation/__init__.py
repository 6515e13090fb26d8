"""First-frame propagation: trains the model on an export, and edits clips with it."""
