"""Whether a cluster can run a recipe, said before anything starts.

``facts`` is what was seen of a cluster, ``collect`` sees it through Ray, ``needs`` what the recipe
asks for, ``diagnose`` compares the two: facts in, findings out, no Ray.
"""
