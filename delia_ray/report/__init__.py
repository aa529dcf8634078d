"""The last stage: one self-contained page and one JSON file that say what happened.

``stage`` reads the folders of the stages before and writes; ``page`` turns what it read
into what the template shows; ``words`` says what the figures mean; ``samples`` chooses what
to show of the outputs; ``plots`` draws; ``*.jinja`` are the page, its style and its script.
Everything in the rows is untrusted: it is escaped, and the page may load nothing.
"""
