"""One file per stage, with the stage's name in a pipeline."""
