"""What a run has done so far, kept in a file and finished from it."""
