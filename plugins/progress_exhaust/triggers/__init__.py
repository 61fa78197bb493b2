"""What starts a run, apart from the schedule."""
