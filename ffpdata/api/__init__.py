"""What a Python program does with ffpdata: run a pipeline, open a run, try a stage. Commands are shells over it."""
