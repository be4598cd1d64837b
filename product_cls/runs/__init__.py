"""Run folders and fingerprints of runs."""
