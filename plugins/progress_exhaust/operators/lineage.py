from progress_exhaust.lineage import Names, facets, package, sources, wanted  # noqa: F401
