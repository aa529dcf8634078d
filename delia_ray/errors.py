"""The errors that end a run with one clear paragraph instead of a traceback."""


class DeliaError(Exception):
    """Something failed while running; the command ends with exit code 1."""

    exit_code = 1


class UserError(DeliaError):
    """Something the user can mend: says what, where and which setting to change.

    Raised before any costly work starts; the command ends with exit code 2.
    """

    exit_code = 2
