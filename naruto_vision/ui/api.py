"""The REST API: the same service as the page, for scripts; ``/api/openapi.json`` describes it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field

from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.ui.engine import BusyError, CancelledError, LostError
from naruto_vision.ui.service import Job, Service, Session, StoredFile
from naruto_vision.ui.settings import SceneSettings, read_settings

_CHUNK = 1 << 20
T = TypeVar("T")
EntryId: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]


class StoredModel(BaseModel):
    """A stored file."""

    id: str
    name: str
    kind: str
    width: int
    height: int


class SegmentQuery(BaseModel):
    """Points and a box for one object of an uploaded image, in pixels of the upright image."""

    file: str = Field(description="id of an uploaded image")
    points: list[tuple[float, float, bool]] = Field(default=[], description="x, y, and whether it is on the object")
    box: tuple[float, float, float, float] | None = Field(default=None, description="two opposite corners")
    mask: int | None = Field(default=None, ge=0, description="index of the mask to choose; none takes the best")
    weights: str = ""
    preset: str = Field(default="", description="gallery that names the masks; none names none")


class SearchQuery(BaseModel):
    """A text or an uploaded image, searched in a gallery."""

    preset: str
    text: str = ""
    file: str = Field(default="", description="id of an uploaded image")
    k: int = Field(default=5, ge=1, le=20)


class AddQuery(BaseModel):
    """Images to add to a gallery under a name."""

    files: list[str] = Field(min_length=1, description="ids of uploaded images")
    label: str


class RemoveQuery(BaseModel):
    """Entries to remove from a gallery."""

    ids: list[EntryId] = Field(min_length=1, description="as GET /api/gallery/{preset}?rows=true lists them")


class RelabelQuery(RemoveQuery):
    """Entries to give another name."""

    label: str


class RollbackQuery(BaseModel):
    """The generation of a gallery to restore."""

    generation: int


class VideoQuery(BaseModel):
    """What to find in the indexed videos."""

    text: str = ""
    file: str = Field(default="", description="id of an uploaded image")
    character: str = ""
    preset: str = Field(default="", description="gallery of the character")
    videos: list[str] = []
    top_k: int = Field(default=20, ge=1, le=200)


def session_of(request: Request) -> Session:
    """Return the session of a request, which the guard has found or started."""
    found = request.state.session
    if not isinstance(found, Session):
        raise HTTPException(401, "no session: reload the page")
    return found


def add_api(app: FastAPI, service: Service) -> None:
    """Add the routes and the error handlers to an application."""
    app.include_router(_router(service))
    for kind, status in ((BusyError, 429), (InputError, 422), (LostError, 503), (CancelledError, 409)):
        app.add_exception_handler(kind, _handler(status))
    app.add_exception_handler(NarutoVisionError, _handler(500))


def _handler(status: int) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def handle(_request: Request, error: Exception) -> JSONResponse:
        headers = {"retry-after": "2"} if status == 429 else {}
        return JSONResponse({"detail": str(error)}, status, headers)

    return handle


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await upload.read(_CHUNK):
        yield chunk


def _stored(found: StoredFile) -> StoredModel:
    return StoredModel(id=found.id, name=found.name, kind=found.kind, width=found.width, height=found.height)


async def finish(job: Job, service: Service) -> Any:  # noqa: ANN401 - what the task returns
    """Wait for a job; if the client leaves, it is cancelled."""
    try:
        await job.finished.wait()
    except asyncio.CancelledError:
        service.cancel(job)
        raise
    if job.state != "done":
        raise InputError(job.error or job.state)
    return job.result


def _router(service: Service) -> APIRouter:  # noqa: C901 - a route each
    router = APIRouter()

    def _bounded(files: list[UploadFile]) -> list[UploadFile]:
        if len(files) > (most := service.config.limits.request_files):
            raise InputError(f"files: at most {most} in a request, found {len(files)}")
        return files

    own = Annotated[Session, Depends(session_of)]

    @router.get("/api/health")
    async def health() -> dict[str, Any]:
        """Say that the application is up, and how many requests wait."""
        return {"state": "ok", "waiting": service.engine.waiting, "sessions": len(service.sessions)}

    @router.post("/api/files")
    async def upload(session: own, files: Annotated[list[UploadFile], File()]) -> list[StoredModel]:
        """Store images or videos for this session; the answer has the ids that the other routes take."""
        return [_stored(await service.store(session, each.filename or "", _chunks(each))) for each in _bounded(files)]

    @router.post("/api/analyze")
    async def analyze(
        session: own,
        preset: Annotated[str, Form()],
        files: Annotated[list[UploadFile], File()],
        settings: Annotated[str, Form(description="JSON of the controls, as GET /api/controls shows them")] = "{}",
    ) -> dict[str, Any]:
        """Name the characters of scenes: returns each scene's regions with names, scores and outlines."""
        try:
            chosen = read_settings(msgspec.json.decode(settings), SceneSettings)
        except msgspec.DecodeError as error:
            raise InputError(f"settings: {error}") from None
        stored = [await service.store(session, each.filename or "", _chunks(each)) for each in _bounded(files)]
        job = service.analyze(session, stored, preset, chosen)
        run = await finish(job, service)
        return {"counts": run["counts"], "scenes": job.news}

    @router.get("/api/presets")
    async def presets() -> dict[str, Any]:
        """List the galleries and the promptable models."""
        return {
            "presets": list(service.presets),
            "weights": list(service.config.weights),
        }

    @router.get("/api/controls/{preset:path}")
    async def controls(session: own, preset: str) -> dict[str, Any]:
        """Show the controls of scenes as a gallery's settings have them; any of them may be given to /api/analyze."""
        service.gallery_folder(preset)
        found = await service.call(session, "scenes.controls", preset=preset)
        return dict(msgspec.to_builtins(found))

    @router.post("/api/search")
    async def search(session: own, query: SearchQuery) -> dict[str, Any]:
        """Search a gallery by a text or an uploaded image."""
        path = str(session.file(query.file).path) if query.file else ""
        found = await service.search(session, query.preset, text=query.text, path=path, k=query.k)
        return {key: value for key, value in found.items() if key != "pictures"}

    @router.post("/api/segment")
    async def segment(session: own, query: SegmentQuery) -> dict[str, Any]:
        """Segment one object by points and a box: returns three masks with outlines, scores and metrics."""
        file = session.file(query.file)
        operations: list[tuple[str, tuple[Any, ...]]] = [("reset", ())]
        operations += [("box", query.box)] if query.box else []
        operations += [("point", point) for point in query.points]
        operations += [] if query.mask is None else [("choose", (query.mask,))]
        return await service.segment_once(session, file, query.weights, query.preset, operations)

    @router.get("/api/gallery/{preset:path}")
    async def gallery(preset: str, rows: bool = False) -> dict[str, Any]:
        """List the labels of a gallery with their counts, and its entries if asked for."""
        return service.gallery(preset, rows=rows).as_json(rows=rows)

    @router.post("/api/gallery/{preset:path}/add")
    async def add(session: own, preset: str, query: AddQuery) -> dict[str, Any]:
        """Add uploaded images to a gallery under a name."""
        files = [(each.name, str(each.path)) for each in map(session.file, query.files)]
        return await service.edit_gallery(session, preset, "add", files=files, label=query.label)

    @router.post("/api/gallery/{preset:path}/remove")
    async def remove(session: own, preset: str, query: RemoveQuery) -> dict[str, Any]:
        """Remove entries from a gallery; a rollback restores them."""
        return await service.edit_gallery(session, preset, "remove", ids=query.ids)

    @router.post("/api/gallery/{preset:path}/relabel")
    async def relabel(session: own, preset: str, query: RelabelQuery) -> dict[str, Any]:
        """Give entries of a gallery another name."""
        return await service.edit_gallery(session, preset, "relabel", ids=query.ids, label=query.label)

    @router.post("/api/gallery/{preset:path}/rollback")
    async def rollback(session: own, preset: str, query: RollbackQuery) -> dict[str, Any]:
        """Restore an older generation of a gallery, as a new generation."""
        return await service.edit_gallery(session, preset, "rollback", generation=query.generation)

    @router.post("/api/video/search")
    async def video_search(session: own, query: VideoQuery) -> dict[str, Any]:
        """Find moments in the indexed videos by a text, an uploaded image or a character."""
        path = str(session.file(query.file).path) if query.file else ""
        return await service.search_videos(session, **query.model_dump(exclude={"file"}), path=path)

    @router.get("/files/{token}/{name}")
    async def file(session: own, token: str, name: str) -> FileResponse:  # noqa: ARG001 - the name is for the browser
        """Send a file of this session by the token that the session made for it."""
        path = session.links.get(token)
        if path is None or not path.is_file():
            raise HTTPException(404, "no such file in this session")
        return FileResponse(path, headers={"cache-control": "private, max-age=3600"})

    return router
