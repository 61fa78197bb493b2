"""One task each: settings and arguments in, hook and core calls, a small dict out."""
