"""Stage 5: every arm and the untrained base answer every suite, with intervals.

Metrics (``config.Metric.name``; one file each in ``metrics/``):

================  ==========  =======================================================
name              scale       what it says
================  ==========  =======================================================
exact_match       0 to 1      output equals reference, outer whitespace aside
format_validity   0 to 1      output has the form of the reference (type, keys)
field_accuracy    0 to 1      the value of one key of the answer is right
bleu              0 to 100    sacrebleu BLEU of the whole suite
chrf              0 to 100    sacrebleu chrF2 of the whole suite
================  ==========  =======================================================

``statistics`` has the intervals of one run, ``hierarchical`` those over several seeds (with
``crossed``, ``student``, ``power`` and ``multiple`` under it), ``scoring`` what a suite's
outputs are worth, ``table`` the terminal's view, ``stage`` the Ray tasks. Only ``stage``
imports Ray.
"""
