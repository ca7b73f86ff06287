"""What holds for all tests."""

import gc


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of garbage collection, which would visit some million objects each time."""
    gc.collect()
    gc.freeze()
