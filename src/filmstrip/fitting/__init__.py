"""Fitting a pipeline into a memory: rehearsals, the search for a plan, and the plan carried out."""
