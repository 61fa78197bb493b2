"""Every statement that this package sends, named; values are always bound, names come from validated settings."""
