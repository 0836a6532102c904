"""Slides and what was found on them, in the browser."""
