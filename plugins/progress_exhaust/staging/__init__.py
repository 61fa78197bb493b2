"""The private folder of a batch in a run, and the typed manifests that its stages write there."""
