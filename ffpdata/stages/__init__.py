"""One file per stage, named as it stands in a pipeline."""
