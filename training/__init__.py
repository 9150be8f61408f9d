"""Training of models: code of the repository, not of the package."""
