"""A store that several machines share: an object store or a file system that fsspec reaches, behind a local folder.

What a stage made is a record, under the key of the stage's inputs, and blobs, each under the sha256 of its bytes. Blobs
are written first, the record last, so that a record that is seen is whole or, after a loss, treated as absent. Nothing
that comes from there is used before its size and digest are as its record says.
"""
