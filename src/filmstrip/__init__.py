"""Filmstrip."""
