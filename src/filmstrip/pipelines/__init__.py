"""Module paths that code written for Diffusers imports from."""
