"""Manifests for KubeRay, rendered from the recipe that the cluster is to run.

``render`` makes the objects, ``pods`` the templates of their pods, ``sizes`` says how many pods
the recipe needs, ``rules`` what KubeRay's operator refuses though its schema allows it.
"""
