"""Pictures in: from files to batches."""

import os

# Otherwise albumentations asks the package index for newer releases whenever it is imported, by
# each job and each worker, which takes seconds where there is no network. Ours is pinned.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
