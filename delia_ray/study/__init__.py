"""Studies: many runs that together answer a question, and the page that states the answer.

``page`` renders what a study of the paper's claims found; ``figures`` chooses what is drawn
and says under each drawing what it shows; ``plots`` draws; ``tables`` lists every figure.
"""
