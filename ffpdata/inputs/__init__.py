"""What a run is given: `--input` listed into items, on a local disk or an object store."""
