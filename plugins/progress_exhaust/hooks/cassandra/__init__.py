"""Cassandra: the learners' enrolments, nested progress and assessment attempts; course batches and collection trees.

`models` and `raw_values` are light: they import no driver.
"""
