"""Stage 5: every arm and the untrained base answer every suite, with intervals.

Metrics (``config.Metric.name``; in ``metrics/``; sources and rules at the classes). "row"
has a score for each row and so a paired difference; "suite" only one for the whole suite.

===========================  ========  =====  ================================================
name                         scale     per    what it says, and its source
===========================  ========  =====  ================================================
exact_match                  0 to 1    row    output equals reference, outer whitespace aside
                                              (after SQuAD, arXiv 1606.05250)
content_match                0 to 1    row    the same words, whatever the format: tells wrong
                                              content from wrong form (after SQuAD)
format_validity              0 to 1    row    output has the form of the reference, or is JSON,
                                              a Python literal, matches a regex or a JSON schema
                                              (the format part of arXiv 2408.10841)
field_accuracy               0 to 1    row    the value of one key of the answer is right
                                              (arXiv 2408.10841)
accuracy                     0 to 1    row    the label read out of the answer is right
f1                           0 to 1    suite  macro F1 of such labels
constraints                  0 to 1    row    every verifiable constraint of the prompt is
                                              followed (IFEval, arXiv 2311.07911, prompt level)
constraints_per_instruction  0 to 1    suite  share of all constraints that are followed
                                              (IFEval, instruction level)
bleu                         0 to 100  suite  sacrebleu BLEU (arXiv 1804.08771)
chrf                         0 to 100  suite  sacrebleu chrF2 (W15-3049)
chrf++                       0 to 100  suite  sacrebleu chrF2++ with word bigrams (W17-4770)
ter                          0 to 100  suite  sacrebleu TER (2006.amta-papers.25); less is
                                              better, can exceed 100
bleurt                       about 0   row    BLEURT model (arXiv 2004.04696); needs package
                             to 1             and checkpoint
comet                        about 0   row    COMET model (arXiv 2009.09025), which sees the
                             to 1             source too; needs package and checkpoint
length                       no bound  row    words or characters of the output
repetition                   0 to 1    row    share of repeated 4-word sequences (after
                                              seq-rep-4, arXiv 1908.04319); less is better
===========================  ========  =====  ================================================

``statistics`` has the intervals of one run, ``hierarchical`` those over several seeds (with
``crossed``, ``student``, ``power`` and ``multiple`` under it), ``scoring`` what a suite's
outputs are worth, ``table`` the terminal's view, ``stage`` the Ray tasks. Only ``stage``
imports Ray.
"""
