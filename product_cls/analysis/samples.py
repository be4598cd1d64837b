"""The sample table of a finished run."""

from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from product_cls.runs.folder import RunFolder


def read_samples(folder: RunFolder) -> pd.DataFrame:
    """The sample table that a run's config tells, as it is now.

    Raises:
        FileNotFoundError: its data is no longer there; and whatever else its reader raises.
    """
    # Imported here, for it brings Lightning, which a report without pictures need not wait for.
    from product_cls.config.instantiate import build

    config = OmegaConf.create(folder.config_file.read_text())
    for key in ("root", "file"):
        place = config.data.get(key)
        # Asked first, because a reader of rendered products would render them anew.
        if place and not Path(place).expanduser().exists():
            raise FileNotFoundError(f"there is no data.{key}={place}")
    samples: pd.DataFrame = build(config.data.samples)
    return samples
