"""Tests of reading and writing images and videos."""
