"""Recorded passes: operations on symbols, and the passes that turn them into a plan of sections."""
