"""Compare two files of a report: which learners, which cells, and why they differ."""
