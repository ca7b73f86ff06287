"""The REST API: the same service as the page, for scripts; ``/api/openapi.json`` describes it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from fastapi import APIRouter, Depends, FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.ui.engine import BusyError, CancelledError, LostError
from naruto_vision.ui.service import Job, Service, Session, StoredFile
from naruto_vision.ui.settings import read_settings

_CHUNK = 1 << 20
T = TypeVar("T")
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Text: TypeAlias = Annotated[str, Field(max_length=1000)]
EntryId: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]
_LEFT = 0.5  # seconds between two looks whether the client has left
_MOST = 200  # points, files or videos of a request


class StoredModel(BaseModel):
    """A stored file."""

    id: str
    name: str
    kind: str
    width: int
    height: int


class Query(BaseModel):
    """What a request asks for; other keys are refused."""

    model_config = ConfigDict(extra="forbid")


class SegmentQuery(Query):
    """Points and a box for one object of an uploaded image, in pixels of the upright image."""

    file: str = Field(description="id of an uploaded image")
    points: list[tuple[Number, Number, bool]] = Field(
        default=[], max_length=_MOST, description="x, y, and whether it is on the object"
    )
    box: tuple[Number, Number, Number, Number] | None = Field(default=None, description="two opposite corners")
    mask: int | None = Field(default=None, ge=0, le=2, description="index of the mask to choose; none takes the best")
    weights: str = ""
    preset: str = Field(default="", description="gallery that names the masks; none names none")


class SearchQuery(Query):
    """A text or an uploaded image, searched in a gallery."""

    preset: str
    text: Text = ""
    file: str = Field(default="", description="id of an uploaded image")
    k: int = Field(default=5, ge=1, le=20)


class AddQuery(Query):
    """Images to add to a gallery under a name."""

    files: list[str] = Field(min_length=1, max_length=_MOST, description="ids of uploaded images")
    label: str


class RemoveQuery(Query):
    """Entries to remove from a gallery."""

    ids: list[EntryId] = Field(min_length=1, description="as GET /api/gallery/{preset}?rows=true lists them")


class RelabelQuery(RemoveQuery):
    """Entries to give another name."""

    label: str


class RollbackQuery(Query):
    """The generation of a gallery to restore."""

    generation: EntryId


class VideoQuery(Query):
    """What to find in the indexed videos."""

    text: Text = ""
    file: str = Field(default="", description="id of an uploaded image")
    character: Text = ""
    preset: str = Field(default="", description="gallery of the character")
    videos: list[str] = Field(default=[], max_length=_MOST)
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
        app.add_exception_handler(kind, _handler(service, status))
    app.add_exception_handler(NarutoVisionError, _handler(service, 500))
    app.add_exception_handler(RequestValidationError, _refuse_query)


def _handler(service: Service, status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        text = str(service.readable(request.state.session, error))
        return _detail(text, status, {"retry-after": "2"} if status in {429, 503} else {})

    return handle


def _detail(detail: Any, status: int, headers: dict[str, str]) -> Response:  # noqa: ANN401 - any JSON value
    """Return an answer in ASCII, as a text of a client may have what UTF-8 has not."""
    return Response(json.dumps({"detail": detail}), status, headers, "application/json")


async def _refuse_query(_request: Request, error: Exception) -> Response:
    """Say what is wrong and where, without what was sent."""
    rows = error.errors() if isinstance(error, RequestValidationError) else []
    return _detail([{"loc": row["loc"], "msg": row["msg"]} for row in rows[:10]], 422, {})


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await upload.read(_CHUNK):
        yield chunk


def _stored(found: StoredFile) -> StoredModel:
    return StoredModel(id=found.id, name=found.name, kind=found.kind, width=found.width, height=found.height)


async def finish(job: Job, service: Service, request: Request) -> Any:  # noqa: ANN401 - what the task returns
    """Wait for a job; if the client leaves, it is cancelled."""
    try:
        while not job.over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(job.finished.wait(), _LEFT)
            if await request.is_disconnected():
                break
    finally:
        service.cancel(job)
        await job.finished.wait()  # as it reads the files of the request
    if job.state != "done":
        raise job.fault or CancelledError()
    return job.result


def _router(service: Service) -> APIRouter:  # noqa: C901 - a route each
    router = APIRouter(form_limits={"max_files": service.config.limits.request_files, "max_fields": 10})

    own = Annotated[Session, Depends(session_of)]

    @router.get("/api/health")
    async def health() -> dict[str, Any]:
        """Say that the application is up, and how many requests wait."""
        return {"state": "ok", "waiting": service.engine.waiting, "sessions": len(service.sessions)}

    @router.post("/api/files")
    async def upload(session: own, files: Annotated[list[UploadFile], File()]) -> list[StoredModel]:
        """Store images or videos for this session; the answer has the ids that the other routes take."""
        return [_stored(await service.store(session, each.filename or "", _chunks(each))) for each in files]

    @router.post("/api/analyze")
    async def analyze(
        request: Request,
        session: own,
        preset: Annotated[str, Form()],
        files: Annotated[list[UploadFile], File()],
        settings: Annotated[str, Form(description="JSON of the controls, as GET /api/controls shows them")] = "{}",
    ) -> dict[str, Any]:
        """Name the characters of scenes: returns each scene's regions with names, scores and outlines."""
        try:
            chosen = read_settings(msgspec.json.decode(settings.encode(errors="replace")))
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"settings: {error}") from None
        stored: list[StoredFile] = []
        try:
            for each in files:
                stored.append(await service.store(session, each.filename or "", _chunks(each)))  # noqa: PERF401 - what is stored of a bad request is deleted too
            job = service.analyze(session, stored, preset, chosen)
            run = await finish(job, service, request)
        finally:
            for file in stored:
                service.discard(session, file)
        return {"counts": run["counts"], "scenes": job.news}

    @router.get("/api/presets")
    async def presets() -> dict[str, Any]:
        """List the galleries and the promptable models."""
        return {"presets": list(service.presets), "weights": list(service.config.weights)}

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
        return {key: value for key, value in found.items() if key != "thumbnails"}

    @router.post("/api/segment")
    async def segment(session: own, query: SegmentQuery) -> dict[str, Any]:
        """Segment one object by points and a box: returns three masks with outlines, scores and metrics."""
        file = session.file(query.file)
        operations: list[tuple[str, tuple[Any, ...]]] = [("box", query.box)] if query.box else []
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
        own_rules = {"cache-control": "private, max-age=3600", "content-security-policy": "sandbox"}
        return FileResponse(path, headers=own_rules)

    return router
