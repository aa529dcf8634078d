"""A trained arm as a folder to take away: adapter, plain model, and a card with its data's story.

``bundle`` checks, copies and publishes, ``card`` turns the run's manifests into ``README.md``,
``hub`` uploads, ``layout`` knows such a folder when it sees one.
"""
