"""The sample table of a finished run."""

from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from product_cls.runs.folder import RunFolder


def read_samples(folder: RunFolder) -> pd.DataFrame:
    """Read the sample table of a run again, from the data that its config names.

    Raises:
        FileNotFoundError: the data no longer exists. The reader may raise other errors.
    """
    # Imported here because it imports Lightning, which a report without pictures does not need.
    from product_cls.config.instantiate import build

    config = OmegaConf.create(folder.config())
    for key in ("root", "file"):
        place = config.data.get(key)
        # Checked first, because the reader of rendered products would render missing ones.
        if place and not Path(place).expanduser().exists():
            raise FileNotFoundError(f"there is no data.{key}={place}")
    samples: pd.DataFrame = build(config.data.samples)
    return samples
