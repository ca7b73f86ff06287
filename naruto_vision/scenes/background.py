"""Writing the files of one scene while the next one is searched."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from naruto_vision.files.hashing import file_sha256
from naruto_vision.records import Picture, ScenePrediction
from naruto_vision.scenes.writer import SceneWriter

_AHEAD = 2  # scenes that wait to be written; more would only take memory, as writing is the quicker of the two


class BackgroundWriter:
    """Puts scenes through a ``SceneWriter`` in their order, in one thread of its own.

    Most of writing is waiting until the disk has every file for good, and computing goes on meanwhile. The order is
    kept, so what a kill leaves behind is what it would leave without the thread.

    Args:
        writer: Writes the files.
        pictures: The folder that the scenes are relative to; their hashes go into the log.
    """

    def __init__(self, writer: SceneWriter, pictures: str | Path) -> None:
        self._writer = writer
        self._pictures = Path(pictures)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scene-writer")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def write(self, picture: Picture, prediction: ScenePrediction) -> None:
        """Have one scene written; waits while two others are still to be written.

        Args:
            picture: The scene: shape (H, W, 3), uint8, RGB, upright; not to be changed afterwards.
            prediction: What was found in it.

        Raises:
            OSError: If an earlier scene could not be written.
        """
        while len(self._waiting) >= _AHEAD or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, picture, prediction))

    def _write(self, picture: Picture, prediction: ScenePrediction) -> None:
        if self._failed:  # a later scene's line must not come before this one's, or resuming would change the order
            return
        self._failed = True
        self._writer.write(picture, prediction, file_sha256(self._pictures / prediction.scene))
        self._failed = False

    def close(self) -> None:
        """Wait until everything is written; nothing can be written afterwards.

        Raises:
            OSError: If a scene could not be written; those behind it are not written either.
        """
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            for scene in self._waiting:
                scene.cancel()
            self._pool.shutdown()
