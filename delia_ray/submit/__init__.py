"""Handing a recipe to a Ray cluster through its Jobs API, and following it to the end.

``package`` gathers what the job needs, ``client`` speaks to the cluster, ``follow`` streams the
log through lost connections, ``secrets`` passes values by name.
"""
