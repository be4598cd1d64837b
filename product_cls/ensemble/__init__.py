"""Finished runs as one system."""
