"""The manifests of a run folder: rows of stages go in as Parquet parts; SQL views of the current rows come out."""
