"""The tests; a package, as one that some library installs by this name must not take its place."""
