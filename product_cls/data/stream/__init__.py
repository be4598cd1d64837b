"""Pictures in shards: tar files that are read as they lie, in a folder or behind an address.

A set of shards is a folder with ``<split>-<number>.tar`` (WebDataset's layout: the pictures' own
bytes, named by their row), ``samples.csv`` (the sample table; ``path`` tells shard, offset and size
of each picture), ``index.json`` (the shards and the columns' types) and ``stream.json``, which is
there only once the set is whole.
"""
