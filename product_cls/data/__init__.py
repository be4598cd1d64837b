"""Data: from picture files to batches."""

import os

# Without this, albumentations queries the package index for newer releases on every import, in each
# job and each worker, which takes seconds without a network. Its version is pinned here.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
