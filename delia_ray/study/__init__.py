"""The paper's claims, put so that scores can answer them.

``claims`` says what is claimed of which arms, ``verdicts`` judges it from the scores of
several seeds. Pure functions; no Ray.
"""
