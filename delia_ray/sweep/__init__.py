"""Sweeps: Ray Tune over the settings of a run, with one synthesis for all trials.

``settings`` says what is searched and how, ``space`` makes configurations of it, ``trial`` trains
and scores one, ``search`` is the part that knows Tune.
"""
