"""The routes of the review server: the page, the pairs, their media and the verdicts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from ffpdata.core.errors import FfpdataError
from ffpdata.core.wording import fault
from ffpdata.curate.verdicts import REASONS
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.access import Logins
from ffpdata.review.assignments import Assignments, GivenVerdict, RefusedError, check_reviewer
from ffpdata.review.pairs import FACT_COLUMNS, FILES, PairFilter, ReviewPair
from ffpdata.review.panel_video import PANELS, POSTER, REFERENCE, VIDEO, Previews, in_a_column
from ffpdata.storage.store import Store

MAX_PAIRS = 8
"""Most pairs that a reviewer may get in one request."""

PAGE = {"/": "index.html", **{f"/{n}": n for n in ("review.js", "player.js", "review.css", "icon.svg")}}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PREVIEWS = {"video": VIDEO, "poster": POSTER, "reference": REFERENCE}
MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg"}
FOREVER = "private, max-age=604800, immutable"
"""Media of a pair never change: a pair that is made again has another key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Login(_Strict):
    """Logs a reviewer in."""

    reviewer: str


class Next(_Strict):
    """Asks for the next pairs."""

    wanted: PairFilter = PairFilter()
    count: int = Field(default=1, ge=1, le=MAX_PAIRS)


class Release(_Strict):
    """Ends the leases of pairs."""

    pairs: list[str] = Field(max_length=100)


class VerdictIn(_Strict):
    """A verdict on a pair."""

    pair: str = Field(max_length=64)
    verdict: str = Field(max_length=16)
    reasons: list[str] = Field(default=[], max_length=len(REASONS))
    seconds: float | None = Field(default=None)
    event: int | None = Field(default=None, ge=0)
    """The pair's `event` as it came with the pair, or with the answer to the verdict before."""


Kind = Literal["video", "poster", "reference", "source", "target", "mask"]


class _Media(FileResponse):
    """Response with a file of the run, whole or in byte ranges; the file stays in the scratch while it is sent."""

    def __init__(self, path: Path, release: ExitStack) -> None:
        headers = {"cache-control": FOREVER, "content-disposition": "inline"}
        super().__init__(path, media_type=MEDIA_TYPES[path.suffix], headers=headers)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._release:
            await super().__call__(scope, receive, send)


def _reviewer(request: Request) -> str:
    """Return the name of the reviewer who sent the request."""
    name = request.scope["reviewer"]
    if name is None:
        raise RefusedError(403, "log in with a name first: POST /api/login")
    return check_reviewer(name)


Reviewer = Annotated[str, Depends(_reviewer)]


def make_app(run: RunFolder, assignments: Assignments, previews: Previews, logins: Logins) -> FastAPI:
    """Make the application. It checks no access itself: `access.AccessGuard` must be in front of it.

    Args:
        run: the run folder.
        assignments: of the run's pairs.
        previews: of the run.
        logins: makes the cookie with a reviewer's name.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_page(app)
    _add_errors(app)
    _add_review(app, run, assignments, previews, logins)
    _add_media(app, run.store, assignments, previews)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    def refused(_: Request, err: RefusedError) -> Response:
        return JSONResponse({"error": str(err)}, err.status)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, err: RequestValidationError) -> Response:
        problems = (f"{'.'.join(map(str, e['loc'][1:])) or 'the body'}: {fault(e)}" for e in err.errors()[:5])
        return JSONResponse({"error": "; ".join(problems)}, 422)


def _add_page(app: FastAPI) -> None:
    page = resources.files("ffpdata.review") / "page"
    for path, name in PAGE.items():
        app.get(path)(_static((page / name).read_bytes(), TYPES[Path(name).suffix]))


def _add_review(app: FastAPI, run: RunFolder, assignments: Assignments, previews: Previews, logins: Logins) -> None:
    @app.post("/api/login")
    def login(body: Login) -> Response:
        name = check_reviewer(body.reviewer)
        return JSONResponse({"reviewer": name}, headers={"set-cookie": logins.cookie(name)})

    @app.get("/api/session")
    def session(request: Request) -> dict[str, Any]:
        return {
            "reviewer": request.scope["reviewer"],
            "run": Path(run.store.root).name,
            "reasons": REASONS,
            "filters": assignments.pairs.counts(),
        }

    @app.post("/api/next")
    def next_pairs(body: Next, reviewer: Reviewer) -> dict[str, Any]:
        pairs = assignments.lease(reviewer, body.wanted, body.count)
        for pair in pairs:
            previews.prepare(assignments.pairs.files(pair))
        return {"pairs": [_pair_json(assignments, pair, reviewer) for pair in pairs]}

    @app.post("/api/release")
    def release(body: Release, reviewer: Reviewer) -> dict[str, Any]:
        assignments.release(reviewer, body.pairs)
        return {}

    @app.post("/api/verdicts")
    def verdict(body: VerdictIn, reviewer: Reviewer) -> dict[str, Any]:
        given = GivenVerdict(body.verdict, tuple(body.reasons), body.seconds)
        stored = assignments.submit(reviewer, body.pair, given, body.event)
        event = assignments.events(reviewer, body.pair) if body.event is None else body.event + 1
        return {"pair": body.pair, "verdict": stored.verdict, "reasons": stored.reasons, "event": event}

    @app.get("/api/progress")
    def progress() -> dict[str, Any]:
        return assignments.progress()


def _add_media(app: FastAPI, store: Store, assignments: Assignments, previews: Previews) -> None:
    @app.get("/media/{key}/{kind}")
    async def media(key: str, kind: Kind) -> Response:
        files = assignments.pairs.files(assignments.find(key))
        if (kind if kind in FILES else "source") not in files:
            raise RefusedError(404, f"the pair has no {kind}")
        try:
            if kind in PREVIEWS:
                await asyncio.shield(asyncio.wrap_future(previews.prepare(files)))
            return await run_in_threadpool(_media, store, previews, files, kind)
        except (FfpdataError, FileNotFoundError, ValueError) as err:
            raise RefusedError(404, f"the {kind} cannot be shown: {type(err).__name__}") from err


def _media(store: Store, previews: Previews, files: Mapping[str, str], kind: str) -> Response:
    with ExitStack() as stack:
        in_use = stack.enter_context(store.hold())
        path = previews.path(files, PREVIEWS[kind]) if kind in PREVIEWS else files[kind]
        local = store.fetch(path, in_use)
        if not local.is_file():
            raise FileNotFoundError(local)
        return _Media(local, stack.pop_all())


def _static(content: bytes, media_type: str) -> Callable[[Request], Response]:
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    def answer(request: Request) -> Response:
        headers = {"etag": etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return answer


def _pair_json(assignments: Assignments, pair: ReviewPair, reviewer: str) -> dict[str, Any]:
    """Return what the page shows of a pair, as JSON data."""
    row = assignments.pairs.row(pair)
    kinds = [kind for kind, column in FILES.items() if row.get(column)]
    return {
        "key": pair.key,
        "event": assignments.events(reviewer, pair.key),
        "track": pair.track,
        "task": pair.task,
        "stage": pair.status,
        "panels": [kind for kind in PANELS if kind in kinds],
        "column": in_a_column(row["width"], row["height"]),
        "files": kinds,
        **{name: row[name] for name in ("width", "height", "frames", "fps")},
        "facts": {name: row[name] for name in FACT_COLUMNS if row.get(name) not in (None, "")},
    }
