"""How pandas keeps text, for who imports this module.

With pyarrow installed, pandas keeps text in pyarrow's arrays. They refuse names of files that are
not UTF-8, which Linux allows.
"""

import pandas as pd

pd.set_option("mode.string_storage", "python")
