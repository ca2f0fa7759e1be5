"""The errors that a user can do something about: one clear sentence, never a traceback."""

from __future__ import annotations


class Problem(Exception):  # noqa: N818 (for the user, not for a log)
    """Bad input or a missing means: the text is one sentence that says what was expected, what was seen and what to do next.

    The plugin ends the run with it and the exit code `code` (pytest's 4, usage error, unless said otherwise).
    """

    code = 4
