"""Stage 1: users' files become records with content ids; what cannot is set aside and counted.

``files`` finds them, ``containers`` decodes them by content, ``readers`` turns one row of a
known layout into a prompt and an answer, ``parse`` does all of that for one file, ``pool``
gives the diverse queries their order, and ``stage`` puts it together.
"""
