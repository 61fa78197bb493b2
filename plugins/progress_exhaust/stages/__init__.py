"""What the tasks share: settings and Params, the context of a batch, progress reports, the process pool."""
