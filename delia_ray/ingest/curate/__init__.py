"""Curation of the corpus, each step on batches of rows and without Ray.

``text`` brings text to the forms that are compared, ``near`` finds near-duplicates, ``leaks``
what comes from downstream or evaluation texts, ``scripts`` counts scripts and languages, and
``steps`` puts together what a worker does to a batch.
"""
