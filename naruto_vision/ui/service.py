"""``Service``: sessions, uploads, jobs and files of the web application, without a web library or torch."""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, TypeAlias

from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.gallery.info import Listing, list_gallery
from naruto_vision.gallery.store import read_manifest
from naruto_vision.io.images import scan_folder
from naruto_vision.io.inputs import is_movie
from naruto_vision.io.locks import is_locked, lock, release
from naruto_vision.io.names import folder_name, output_name
from naruto_vision.ui.engine import BusyError, CancelledError, Engine, LostError
from naruto_vision.ui.settings import VIEW, AutomaticSettings, ExemplarSettings, SceneSettings, UiConfig

_LOG = logging.getLogger(__name__)

PREFIX = "naruto-vision-ui-"
"""Of the temporary folder of a server; what a killed one left is removed at the next start."""

NO_GALLERY = (
    "no gallery yet: make one with `naruto-vision fit --config gallery.yaml --data.root DIR` (a folder for each "
    "character in DIR) and start `naruto-vision ui` again; or try `naruto-vision ui --demo`"
)

ENDED = "this session has ended, and its files are deleted; reload the page"

LOG = "predictions.jsonl"
"""What a folder of results has, with a line for each scene."""

_MOST_HITS = 20  # of a search
_MOST_LETTERS, _MOST_QUERIES = 1000, 20  # of a search of videos, and that a session keeps
_LOCK = ".server"  # in the folder of a server, which holds it until it ends in any way
_SWEEP = 60.0  # seconds between two looks for idle sessions
_USES = 10_000  # of closed sessions

Kind: TypeAlias = Literal["image", "video"]
State: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class StoredFile:
    """An image or a video that a session may use."""

    id: str  # random; what the page and the API name it by
    name: str  # cleaned, for display and for names of results
    kind: Kind
    path: Path
    width: int = 0  # of the upright image or frame in pixels
    height: int = 0
    view: str = ""  # token of its copy for a browser; "" for a video
    frames: int = 0  # of a video

    @property
    def zoom(self) -> float:
        """Pixels of the image for each pixel of its copy for a browser."""
        return max(1.0, max(self.width, self.height) / VIEW)


@dataclass
class Job:
    """Something long that a session started."""

    id: str
    title: str
    out: Path
    state: State = "waiting"
    done: int = 0
    total: int = 0
    error: str = ""
    news: list[Any] = field(default_factory=list)  # what the steps have reported, in their order
    result: Any = None  # what the task returned; None until it is done
    fault: NarutoVisionError | None = None  # why it has no result; ``error`` is its text
    started: float = 0.0
    number: int = -1
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """Whether it has ended in any way."""
        return self.finished.is_set()

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the steps so far; None before the first."""
        if not self.done or self.over:
            return None
        return (time.monotonic() - self.started) / self.done * (self.total - self.done)

    def progress(self) -> str:
        """Say how far it is, in one line."""
        if self.state == "waiting":
            return f"{self.title}: waiting for its turn"
        if self.state != "running":
            return f"{self.title}: {self.error or self.state}"
        left = self.seconds_left
        return f"{self.title}: {self.done} of {self.total}" + ("" if left is None else f", about {left:.0f} s left")


class Session:
    """What one user has: files, jobs, prompts. Everything is deleted with it; ``key`` is the cookie's value."""

    def __init__(self, key: str, folder: Path) -> None:
        self.key, self.folder = key, folder
        self.files: dict[str, StoredFile] = {}
        self.jobs: dict[str, Job] = {}
        self.links: dict[str, Path] = {}
        self.operations: dict[str, list[tuple[str, tuple[Any, ...]]]] = {}
        self.locks: dict[str, asyncio.Lock] = {}
        self.uses: dict[str, Mapping[str, Any]] = {}
        self.kept: set[tuple[str, int, str]] = set()  # suspect labels that the user keeps: preset, id and label
        self.queries: list[tuple[str, int, dict[str, Any]]] = []  # of videos: in words, moments, arguments
        self.bytes, self.arriving, self.closed = 0, 0, False
        self.bank = f"faiss:{folder / 'videos'}"  # of its own videos
        self.used = time.monotonic()
        self._tokens: dict[Path, str] = {}

    def link(self, path: Path) -> str:
        """Return the token by which the browser fetches a file; only this session can."""
        if path not in self._tokens:
            token = self._tokens[path] = secrets.token_urlsafe(16)
            self.links[token] = path
        return self._tokens[path]

    def new_folder(self) -> Path:
        """Return a new folder of its own."""
        self.check()
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder

    def check(self) -> None:
        """Raise InputError if it has ended."""
        if self.closed:
            raise InputError(ENDED)

    @property
    def busy(self) -> int:
        """How many of its jobs wait or run."""
        return sum(not job.over for job in self.jobs.values())

    def forget_job(self, job: Job) -> None:
        """Drop a job, with its results where they are only of this session."""
        del self.jobs[job.id]
        if job.out.is_relative_to(self.folder):
            self.forget_files(job.out)

    def forget_files(self, folder: Path) -> None:
        """Delete one of its folders, and the links to what it has."""
        for path in [path for path in self._tokens if path.is_relative_to(folder)]:
            del self.links[self._tokens.pop(path)]
        shutil.rmtree(folder, ignore_errors=True)

    def file(self, key: str) -> StoredFile:
        """Return an image by its id; InputError if the session has none of it."""
        found = self.files.get(key)
        if found is None or found.kind != "image":
            raise InputError("file: expected the id of an image of this session; upload it first")
        return found

    def readable(self, text: str) -> str:
        """Return a message without paths of the server: names of the user's files in their place."""
        for each in self.files.values():
            text = text.replace(str(each.path), each.name)
        return text.replace(f"{self.folder}/", "")


class Service:
    """All that the page and the API do; one for all users.

    Args:
        config: What the application was started with.

    Examples:
        >>> service = Service(UiConfig())
        >>> session = service.open_session()
        >>> service.session(session.key) is session, service.session("forged")
        (True, None)
        >>> service.close()
    """

    def __init__(self, config: UiConfig) -> None:
        self.config = config
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        lock(self._lock)
        self._sweeping: asyncio.Task[None] | None = None
        demo = self.folder / "demo"
        self.presets = {"demo": demo / "runs"} if config.demo else dict(config.presets)
        self.folders = (demo / "data/scenes/test/images", demo / "clips") if config.demo else config.folders
        self.preparing: Job | None = None
        """The job that draws the examples of ``--demo``; None without them."""
        self.sessions: dict[str, Session] = {}
        self.engine = self._new_engine()
        self.past_uses: deque[Mapping[str, Any]] = deque(maxlen=_USES)
        """How the prompt sessions of closed sessions were used, for monitoring."""

    def _new_engine(self) -> Engine:
        presets = {name: str(path.resolve()) for name, path in self.presets.items()}
        store = f"faiss:{self.folder / 'videos'}" if self.config.demo else self.config.store
        notes = str(self.folder / "segmented.jsonl")
        settings = {"presets": presets, "weights": self.config.weights, "store": store, "notes": notes}
        return Engine(settings, self.config.limits.waiting)

    def begin(self) -> None:
        """Start the process with the models, and draw the examples of ``--demo``."""
        self.engine.start()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep_often())
        if self.config.demo:
            own = Session("", self.folder)
            self.preparing = self.start(own, "drawing the examples", "demo.prepare", self.folder / "demo")

    def close(self) -> None:
        """End the process with the models, and delete all sessions."""
        self.engine.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        shutil.rmtree(self.folder, ignore_errors=True)
        release(self._lock)

    # sessions

    def open_session(self) -> Session:
        """Start a session; where there are too many, an empty one makes room, or the one that was idle for longest."""
        self.sweep()
        while len(self.sessions) >= self.config.limits.sessions:
            waits = min(self.sessions.values(), key=lambda each: (each.busy > 0, bool(each.files), each.used))
            self.close_session(waits)
        key = secrets.token_urlsafe(32)
        self.sessions[key] = session = Session(key, self.folder / secrets.token_hex(8))
        session.folder.mkdir()
        return session

    def session(self, key: str) -> Session | None:
        """Return a session by its secret; None if there is none."""
        found = self.sessions.get(key)
        if found is not None:
            found.used = time.monotonic()
        return found

    def close_session(self, session: Session) -> None:
        """Delete a session with its files; its jobs are cancelled."""
        self.sessions.pop(session.key, None)
        session.closed = True
        for job in session.jobs.values():
            self.cancel(job)
        self.past_uses += session.uses.values()
        if not session.busy:  # otherwise its files are deleted when the last job has stopped
            shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Delete the sessions that were idle for too long and have no job."""
        now, idle = time.monotonic(), self.config.limits.idle_seconds
        for session in list(self.sessions.values()):
            if now - session.used > idle and not session.busy:
                self.close_session(session)

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self.sweep()

    # files

    async def store(self, session: Session, name: str, chunks: AsyncIterator[bytes]) -> StoredFile:
        """Store an uploaded image or video; InputError if it is too large or cannot be read, or there are too many."""
        limits = self.config.limits
        if len(session.files) + session.arriving >= limits.files:
            msg = f"upload: this session has {limits.files} files, which is the most; close the browser to start again"
            raise InputError(msg)
        if shutil.disk_usage(self.folder).free < limits.free_bytes:
            raise InputError("upload: the disk of the server is full")
        name = _clean(name)
        kind: Kind = "video" if is_movie(name) else "image"
        most = limits.video_bytes if kind == "video" else limits.file_bytes
        path = session.new_folder() / name
        session.arriving += 1
        try:
            with path.open("wb") as handle:
                async for chunk in _at_most(chunks, min(most, limits.session_bytes - session.bytes), name):
                    handle.write(chunk)
            return await self._keep(session, name, kind, path)
        except OSError:
            shutil.rmtree(path.parent, ignore_errors=True)
            msg = f"{name}: cannot be stored: the disk of the server is full, or the session has ended"
            raise InputError(msg) from None
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        finally:
            session.arriving -= 1

    async def _keep(self, session: Session, name: str, kind: Kind, path: Path) -> StoredFile:
        key, view, frames = secrets.token_urlsafe(9), "", 0
        try:
            if kind == "image":
                shown = session.new_folder() / "view.jpg"
                width, height = await self.engine.call("scenes.view", path=str(path), to=str(shown))
                view = session.link(shown)
            else:
                facts = await self.engine.call("videos.check", path=str(path))
                width, height, frames = facts["width"], facts["height"], facts["frames"]
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None
        if kind == "video" and path.is_relative_to(session.folder):  # the name and folder are those of its collection
            name = _numbered(name, {each.name for each in session.files.values()})
            uploads = session.folder / "uploads"
            uploads.mkdir(exist_ok=True)
            path = path.rename(uploads / name)
        session.bytes += path.stat().st_size if path.is_relative_to(session.folder) else 0
        session.files[key] = stored = StoredFile(key, name, kind, path, width, height, view, frames)
        return stored

    def discard(self, session: Session, file: StoredFile) -> None:
        """Delete an uploaded file of a session."""
        if session.files.pop(file.id, None) and file.path.is_relative_to(session.folder):
            session.bytes -= file.path.stat().st_size if file.path.exists() else 0
            session.forget_files(file.path.parent)
            if view := session.links.get(file.view):
                session.forget_files(view.parent)

    def choices(self) -> list[str]:
        """List the images and videos of the folders that users may choose from, as ``<folder>/<path in it>``."""
        found = []
        for number, folder in enumerate(self.folders):
            if not folder.is_dir():  # the examples are not drawn yet
                continue
            listing = scan_folder(folder)
            movies = [name for names in listing.passed_over.values() for name in names if is_movie(name)]
            found += [f"{number}/{name}" for name in (*listing.images, *movies)]
        return found

    async def choose(self, session: Session, choice: str) -> StoredFile:
        """Take a file of ``choices``; InputError if it is none of them."""
        if choice not in await asyncio.to_thread(self.choices):  # a large folder takes a while
            raise InputError("choose: expected one of the listed files")
        number, _, name = choice.partition("/")
        path = self.folders[int(number)] / name
        known = next((each for each in session.files.values() if each.path == path), None)
        kind: Kind = "video" if is_movie(name) else "image"
        return known or await self._keep(session, _clean(Path(name).name), kind, path)

    # jobs

    def start(self, session: Session, title: str, task: str, out: Path | None = None, /, **arguments: Any) -> Job:
        """Queue a task of the process with the models, or raise BusyError; ``out`` is where its results go."""
        limits = self.config.limits
        if session.busy >= limits.session_waiting:
            msg = f"busy: {limits.session_waiting} jobs of this session are waiting; try again when one has ended"
            raise BusyError(msg)
        session.used = time.monotonic()
        for old in [each for each in session.jobs.values() if each.over][: max(0, len(session.jobs) + 1 - limits.jobs)]:
            session.forget_job(old)
        job = Job(secrets.token_urlsafe(9), title, out or session.new_folder())

        def watch(done: int, total: int, news: Any) -> None:  # noqa: ANN401 - whatever the task reports
            if job.state == "waiting":
                job.state = "running"
            job.done, job.total = done, total
            if news is not None:
                job.news.append(news)

        job.started = time.monotonic()
        job.number, answer = self.engine.job(task, watch, out=str(job.out), **arguments)
        session.jobs[job.id] = job
        answer.add_done_callback(lambda found: self._end(session, job, found))
        return job

    def _end(self, session: Session, job: Job, found: "asyncio.Future[Any]") -> None:
        error = CancelledError() if found.cancelled() else found.exception()
        if error is None:
            job.state, job.result = "done", found.result()
        else:
            job.fault = self.readable(session, error)
            if isinstance(error, CancelledError):
                job.state = "cancelled"
            else:
                job.state, job.error = "failed", str(job.fault)
        job.finished.set()
        if session.closed and not session.busy:
            shutil.rmtree(session.folder, ignore_errors=True)

    def readable(self, session: Session | None, error: BaseException) -> NarutoVisionError:
        """Return an error of a task whose text has no path of the server."""
        if not isinstance(error, NarutoVisionError):
            raise error
        text = str(error) if session is None else session.readable(str(error))
        for name, folder in self.presets.items():
            for path in (self._gallery_of(name), folder):
                text = text.replace(str(path.resolve()), name).replace(f"{path}:", f"{name}:")
        for folder in (self.config.out.resolve(), *self.folders):
            text = text.replace(f"{folder}/", "")
        kinds = (BusyError, CancelledError, LostError, InputError, NarutoVisionError)
        return next(kind for kind in kinds if isinstance(error, kind))(text)

    def cancel(self, job: Job) -> None:
        """Stop a job; what it has written so far stays."""
        if not job.over:
            self.engine.cancel(job.number)

    async def call(self, session: Session, task: str, /, **arguments: Any) -> Any:  # noqa: ANN401 - of the task
        """Run a quick task; its errors name the user's files instead of paths."""
        session.check()
        session.used = time.monotonic()
        try:
            return await self.engine.call(task, **arguments)
        except NarutoVisionError as error:
            raise self.readable(session, error) from None

    def results(self, session: Session, job: Job) -> dict[str, str]:
        """Return the files that a job has written: path in its folder → token."""
        paths = sorted(path for path in job.out.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(job.out).as_posix(): session.link(path) for path in paths}

    # parts of the page

    def gallery(self, preset: str, *, rows: bool = False) -> Listing:
        """Read the gallery of a preset; InputError with the command that makes one where it is missing."""
        return list_gallery(self.gallery_folder(preset), rows=rows)

    def generation(self, preset: str) -> int:
        """Return the generation of the gallery of a preset as it is on the disk now."""
        return read_manifest(self.gallery_folder(preset))["generation"]

    def gallery_folder(self, preset: str) -> Path:
        """Return the folder of the gallery of a preset."""
        if preset not in self.presets:
            msg = f"gallery {preset!r}: expected one of {', '.join(self.presets)}" if self.presets else NO_GALLERY
            raise InputError(msg)
        if self.preparing is not None and not self.preparing.over:
            raise InputError("gallery: the examples are still being drawn; try again when they are")
        return self._gallery_of(preset)

    def _gallery_of(self, preset: str) -> Path:
        folder = self.presets[preset]
        own = self.config.galleries.get(preset)
        return own or (folder / "gallery" if (folder / "gallery").is_dir() else folder)

    def analyze(self, session: Session, files: Sequence[StoredFile], preset: str, settings: SceneSettings) -> Job:
        """Name the characters of scenes."""
        self.gallery_folder(preset)
        out = None
        if settings.check().keep_as:
            out = self.config.out / folder_name(settings.keep_as)
            open_jobs = (job for each in self.sessions.values() for job in each.jobs.values() if not job.over)
            if (out / "run.json").exists() or out in {job.out for job in open_jobs}:
                raise InputError(f"keep as {settings.keep_as}: there are results of that name; choose another")
        scenes = scene_names(files)
        chosen = [(name, str(file.path)) for name, file in scenes.items()]
        title = files[0].name if len(files) == 1 else f"{len(files)} scenes"
        return self.start(
            session, f"naming the characters of {title}", "scenes.analyze", out,
            preset=preset, files=chosen, settings=settings,
        )  # fmt: skip

    def segment_all(
        self, session: Session, file: StoredFile, weights: str, settings: AutomaticSettings, *, describe: bool
    ) -> Job:
        """Segment an image without prompts of the user, and describe its regions."""
        gallery = str(self.gallery_folder(settings.gallery)) if isinstance(settings, ExemplarSettings) else ""
        return self.start(
            session, f"segmenting {file.name}", "automatic.segment", path=str(file.path), name=file.name,
            weights=weights, settings=settings.check(), gallery=gallery, describe=describe,
        )  # fmt: skip

    async def prompt(self, session: Session, file: StoredFile, weights: str, preset: str, *new: Any) -> dict[str, Any]:
        """Apply operations to the prompts of an image; those that cannot be applied leave no trace."""
        most = self.config.limits.operations
        async with session.locks.setdefault(file.id, asyncio.Lock()):  # of two at once, one would be lost
            asked = [*session.operations.get(file.id, []), *new]
            if len(asked) > most:
                raise InputError(f"prompts: an image takes {most} changes; upload it again to start over")
            arguments = self.prompt_arguments(session, file, weights) | {"operations": asked, "preset": preset}
            found = await self.call(session, "prompts.apply", **arguments)
            session.operations[file.id] = asked
            session.uses[file.id] = found["use"]
        return dict(found)

    async def save_prompts(self, session: Session, file: StoredFile, weights: str) -> Job:
        """Accept the mask of the prompts of an image, and write its files; returns the finished job."""
        async with session.locks.setdefault(file.id, asyncio.Lock()):  # behind the operations before it
            job = self.start(
                session, f"saving the mask of {file.name}", "prompts.save", name=file.name,
                **self.prompt_arguments(session, file, weights),
            )  # fmt: skip
            await job.finished.wait()
        if job.state != "done":
            raise InputError(job.error or job.state)
        session.uses[file.id] = {**session.uses[file.id], "accepted": True}
        return job

    async def segment_once(
        self,
        session: Session,
        file: StoredFile,
        weights: str,
        preset: str,
        operations: Sequence[tuple[str, tuple[Any, ...]]],
    ) -> dict[str, Any]:
        """Segment one object of an image, apart from the prompts of the page."""
        key = f"{session.key} {file.id} once"
        await self.call(session, "prompts.forget", key=key)
        found = await self.call(
            session, "prompts.apply", key=key, path=str(file.path), weights=weights,
            operations=operations, preset=preset,
        )  # fmt: skip
        return dict(found)

    async def search(self, session: Session, preset: str, *, text: str, path: str, k: int) -> dict[str, Any]:
        """Search the gallery of a preset by a text or an image, for 1 to 20 entries."""
        self.gallery_folder(preset)
        if not 1 <= k <= _MOST_HITS:
            raise InputError(f"search: expected 1 to {_MOST_HITS} entries, found {k}")
        if not (text := text.strip()) and not path:
            raise InputError("search: expected an image or a text")
        return dict(await self.call(session, "search.search", preset=preset, text=text, path=path, k=k))

    async def edit_gallery(self, session: Session, preset: str, edit: str, **arguments: Any) -> dict[str, Any]:
        """Change the gallery of a preset by a function of ``tasks.gallery``; returns what the ledger says of it."""
        self.gallery_folder(preset)
        return dict(await self.call(session, f"gallery.{edit}", preset=preset, **arguments))

    def past_runs(self, session: Session) -> dict[str, Path]:
        """Return folders of results by their titles, the oldest first: what users kept, and this session's own jobs."""
        kept = sorted(self.config.out.glob(f"*/{LOG}"), key=lambda path: path.stat().st_mtime)
        runs = {path.parent.name: path.parent for path in kept}
        for job in session.jobs.values():
            if job.over and (job.out / LOG).is_file() and job.out not in runs.values():
                title = f"{job.title} ({len(runs) + 1})" if job.title in runs else job.title
                runs[title] = job.out
        return {title: folder.resolve() for title, folder in runs.items()}

    def group_unknown(self, session: Session, preset: str, runs: Sequence[str], alike: float | None) -> Job:
        """Group the unknown regions of some of the ``past_runs``."""
        self.gallery_folder(preset)
        known = self.past_runs(session)
        if not runs or not set(runs) <= known.keys():
            raise InputError("unknown regions: choose one or more of the listed results")
        folders = [(title, str(folder)) for title, folder in known.items() if title in runs]
        return self.start(
            session, "grouping the unknown regions", "gallery.unknown", preset=preset, folders=folders, alike=alike
        )

    async def banks(self, session: Session) -> list[dict[str, Any]]:
        """List the indexed videos that a session can search: name and entries."""
        return list(await self.call(session, "videos.banks", own=session.bank))

    def index_videos(self, session: Session, files: Sequence[StoredFile]) -> Job:
        """Index videos: uploaded ones for this session, those of the server's folders into the server's store."""
        uploaded = [str(file.path) for file in files if file.path.is_relative_to(session.folder)]
        others = [str(file.path) for file in files if not file.path.is_relative_to(session.folder)]
        title = files[0].name if len(files) == 1 else f"{len(files)} videos"
        return self.start(
            session, f"indexing {title}", "videos.index", uploaded=uploaded, others=others, own=session.bank,
            frames=sum(file.frames for file in files),
        )  # fmt: skip

    async def search_videos(self, session: Session, **query: Any) -> dict[str, Any]:
        """Find moments in the indexed videos: text, path, character, preset, videos, top_k as in ``videos.search``."""
        if len(str(query.get("text", ""))) > _MOST_LETTERS:
            raise InputError(f"videos: expected a text of at most {_MOST_LETTERS} letters")
        history = "" if self.config.history is None else str(self.config.history)
        asked = self._with_gallery(query)
        found = dict(await self.call(session, "videos.search", own=session.bank, history=history, **asked))
        session.queries = [*session.queries[1 - _MOST_QUERIES :], (found["query"], len(found["moments"]), query)]
        return found

    def show_frames(self, session: Session, frames: Mapping[str, Sequence[int]]) -> Job:
        """Make thumbnails of frames of indexed videos."""
        return self.start(session, "thumbnails", "videos.thumbnails", own=session.bank, frames=frames)

    def cut_clip(self, session: Session, video: str, start: float, end: float) -> Job:
        """Cut a part out of an indexed video, encoded so that browsers play it."""
        title = f"cutting {video}"
        return self.start(session, title, "videos.clip", own=session.bank, video=video, start=start, end=end)

    def export_moments(self, session: Session, query: Mapping[str, Any]) -> Job:
        """Write the files of a search of videos, with clips."""
        return self.start(session, "writing the clips", "videos.export", own=session.bank, **self._with_gallery(query))

    def _with_gallery(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return a query of videos with the folder of the gallery in place of the preset's name."""
        asked = dict(query)
        preset = str(asked.pop("preset", ""))
        return asked | {"gallery": str(self.gallery_folder(preset)) if asked.get("character") else ""}

    async def monitoring(self, session: Session) -> dict[str, Any]:
        """Sum up the results and the prompt sessions of all users since the start of the server."""
        uses = [*self.past_uses, *(use for each in self.sessions.values() for use in each.uses.values())]
        return dict(await self.call(session, "monitoring.summary", uses=uses))

    def prompt_arguments(self, session: Session, file: StoredFile, weights: str) -> dict[str, Any]:
        """Return the arguments of every task on the prompts of an image."""
        operations = session.operations.get(file.id, [])
        return {"key": f"{session.key} {file.id}", "path": str(file.path), "weights": weights, "operations": operations}


async def _at_most(chunks: AsyncIterator[bytes], most: int, name: str) -> AsyncIterator[bytes]:
    """Yield the chunks of an upload; InputError if they have more bytes than it may have."""
    limit = most
    async for chunk in chunks:
        most -= len(chunk)
        if most < 0:
            raise InputError(f"{name}: is larger than the {limit // 1_000_000} MB that can be uploaded")
        yield chunk


def scene_names(files: Sequence[StoredFile]) -> dict[str, StoredFile]:
    """Name the scenes of a job by their files; of equal names the later ones get a number."""
    found: dict[str, StoredFile] = {}
    for file in files:
        found[_numbered(file.name, found)] = file
    return found


def _numbered(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken: itself, or with the first free number from 2."""
    stem, suffix = Path(name).stem, Path(name).suffix
    names = chain([name], (f"{stem}_{number}{suffix}" for number in count(2)))
    return next(each for each in names if each not in taken)


def _clean(name: str) -> str:
    """Return the last part of a client's file name, without anything that could be a path or a control character."""
    last = re.split(r"[/\\]", name)[-1]
    last = re.sub(r"[^\w .()+-]", "_", last).strip(" .") or "image"
    return output_name(last)


def remove_leftovers(folder: Path | None = None) -> None:
    """Remove the temporary folders of servers that were killed."""
    for path in (folder or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, or just being made
            if not path.is_symlink() and not is_locked(path / _LOCK):
                shutil.rmtree(path, ignore_errors=True)
