"""One outside system each; built in execute(), closed with `with`."""
