"""The one tree of errors a user can meet: a sentence, a hint, an exit code."""


class WorkbenchError(Exception):
    """Something the user should read: `message` is one sentence, `hint` says how to mend it."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(WorkbenchError):
    """The user's input cannot be used: a recipe, a dataset, a name. Exit code 2."""

    exit_code = 2


class RunError(WorkbenchError):
    """A run or a job failed, or is not in a state that allows what was asked. Exit code 1."""
