"""The one error that is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can mend. One line: what, which value, and the fix.

    The commands print it without a traceback and exit with code 2.
    """
