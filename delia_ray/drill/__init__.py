"""Drills: a recipe runs to its end while things are killed around it, over and over, and must
come to what it comes to undisturbed.

``schedule`` says what is struck and when, from a seed; ``place`` is the cluster and the storage;
``strike`` does it; ``compare`` says what was lost, repeated or changed; ``run`` is the command.
"""
