"""Probes: features of a frozen network, kept on disk, and classifiers that are fitted to them."""
