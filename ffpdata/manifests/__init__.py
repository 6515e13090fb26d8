"""What every stage decided: Parquet manifests, the SQL views over them, and the run folder that holds them."""
