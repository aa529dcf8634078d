"""Sweeps: many trainings on one synthesis, with Ray Tune.

``space`` says which parameters trials get, ``configs`` makes runs of them, ``pool`` plans the one
synthesis that all of them read. ``work`` is what a trial does, ``trial`` the actor that does it,
``search`` drives Tune, ``records`` keeps what came in files. ``objectives`` and ``pareto`` judge
it, ``fit`` and ``recommend`` say which ratio to take and what to try next, ``confirm`` holds the
best against the recipe. ``result`` puts it together, ``page`` renders it, ``run`` does it all.
"""
