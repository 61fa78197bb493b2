"""From the sources to Parquet: enrolments become enrolled chunks, and each of these becomes a facts chunk."""
