"""Pictures in tar shards, read without an image store from a folder or an address.

A set of shards is a folder with ``<split>-<number>.tar`` (WebDataset's layout: the encoded
pictures, named by their row), ``samples.csv`` (the sample table, where ``path`` gives the shard,
offset and size of each picture), ``index.json`` (the shards and the columns' types) and
``stream.json``, which exists only once the set is complete.
"""
