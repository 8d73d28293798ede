"""How a run is told to stop before it trains. Light: a signal may come while the libraries are still being imported."""


class StopRequestedError(Exception):
    """The run was told to stop before it could train."""


def stop_while_loading(*_: object) -> None:
    """The handler of SIGTERM until training begins. Raises StopRequestedError wherever the worker is."""
    raise StopRequestedError
