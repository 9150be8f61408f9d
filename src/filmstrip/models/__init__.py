"""One folder for each model family: its networks and its pipelines side by side."""
