"""Studies: many runs that together answer a question, and the page that states the answer.

``design`` says what runs, ``run`` runs it, ``result`` puts together what came. ``claims`` says what
is claimed of which arms, ``verdicts`` judges it from the scores of several seeds. ``page`` renders
it; ``figures`` chooses what is drawn, ``plots`` draws, ``tables`` lists every figure.
"""
