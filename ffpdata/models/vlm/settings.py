"""Settings of a served model, which count in keys because they change its answers, and its runtime, which does not."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Closeup(BaseModel):
    """Crops at full size around a mask, in runs of neighbouring frames: what few and small frames cannot show."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str = "target"
    """Medium that is cropped; the question shows it as a clip."""
    around: str = "mask"
    """Medium with the masks. An item without them is asked without the close-up."""
    runs: int = Field(3, ge=1, le=16)
    """Number of runs, evenly spaced over the frames with a mask, the first and the last of them included."""
    frames: int = Field(4, ge=2, le=32)
    """Neighbouring frames of a run."""
    pixels: int = Field(448 * 448, ge=56 * 56)
    """Largest area of a crop, pixels; only a larger one is scaled down."""
    margin: float = Field(0.25, ge=0, le=4)
    """Margin around the mask's box on each side, as a fraction of the box's sides."""

    @property
    def images(self) -> int:
        """Most images that it sends."""
        return self.runs * self.frames


class View(BaseModel):
    """Number and size of the frames that are sent of a question's media."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(8, ge=1, le=128)
    """Frames of a clip, evenly spaced, including the first and the last; all of a shorter clip."""
    clip_pixels: int = Field(644 * 364, ge=56 * 56)
    """Largest area of such a frame, pixels; larger ones are scaled down. The default is 16:9 in multiples of 28."""
    image_pixels: int = Field(1288 * 728, ge=56 * 56)
    """Largest area of a still image, pixels."""
    closeup: Closeup | None = None
    """Crops that are shown after the clips; None for none."""


class ViewSettings(BaseModel):
    """Values of the `View` for one prompt; what is left out is the prompt's own (`OWN_VIEWS`), or the general value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int | None = Field(None, ge=1, le=128)
    clip_pixels: int | None = Field(None, ge=56 * 56)
    image_pixels: int | None = Field(None, ge=56 * 56)
    closeup: Closeup | None = None
    """None: no close-up for this prompt."""


OWN_VIEWS = {
    # First, middle and last frame (paper, section 7.1.1); an odd number of evenly spaced frames holds the middle one.
    "discriminate": ViewSettings(frames=9),
    # Flicker, seams and halos show between neighbouring frames and at full size alone.
    "screen": ViewSettings(closeup=Closeup()),
}
"""Prompt to what its question cannot do without. A profile's `questions` override it entry by entry."""


class VisionSettings(View):
    """Settings of `ServedVision`."""

    multiple: int = Field(28, ge=1, le=256)
    """Frames' width and height are multiples of it, so that the server does not resize: 28 for Qwen2.5-VL (patches of
    14, merged by 2), 32 for Qwen3-VL (of 16)."""
    jpeg_quality: int = Field(92, ge=1, le=100)
    clips_as: Literal["video", "images"] = "video"
    """`video`: the frames as one `video_url` of JPEGs, which vLLM reads as a video. `images`: each frame as an
    image under a heading, for every server that accepts several images per request."""
    request_fps: bool = True
    """With clips as videos: tell the server the rate of the frames that a question shows (vLLM's `media_io_kwargs`), by
    which Qwen2.5-VL and Qwen3-VL place them in time. vLLM wants `--trust-request-mm-kwargs` for it, with which `ffpdata
    serve-vlm` starts it. False for a server that refuses it and assumes a rate of its own."""
    questions: dict[str, ViewSettings] = {}
    """Prompt name to its own `View`, e.g. `{screen: {frames: 16}}`; over `OWN_VIEWS`, of which
    `{screen: {closeup: null}}` takes the close-up away."""
    schema_mode: Literal["json_schema", "json_object", "text"] = "json_schema"
    """Constraint on the server's output: the prompt's schema, any JSON, or none. For the last two the schema is
    appended to the question. The answer is always validated here."""
    repairs: int = Field(1, ge=0, le=3)
    """Repair rounds: how often an invalid answer is sent back to the model with its faults."""
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int = 0
    max_tokens: int = Field(512, ge=16)
    """Longest answer, tokens."""

    def view(self, question: str) -> View:
        """Return the view for the prompt `question`."""
        view = {name: getattr(self, name) for name in View.model_fields}
        for own in (OWN_VIEWS.get(question), self.questions.get(question)):
            given = own.model_dump(exclude_unset=True) if own else {}
            view |= {name: value for name, value in given.items() if value is not None or name == "closeup"}
        return View.model_validate(view)

    def views(self) -> dict[str, View]:
        """Return every view that a question may have: prompt name to view, and that of all other prompts as ``."""
        return {name: self.view(name) for name in ("", *OWN_VIEWS, *self.questions)}


class ServerRuntime(BaseModel):
    """The GPUs that `ffpdata serve-vlm` starts a server on, and its share of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cards: int = Field(1, ge=1)
    """GPUs of one server, over which the model is split."""
    card_gib: float = Field(gt=0, examples=[79.1])
    """Memory of each as CUDA reports it, GiB: 79.1 for an H100 or A100 of 80 GB, 23.5 for an RTX 4090, 22 for an L4."""
    utilization: float = Field(0.9, gt=0, le=1)
    """Share of it that the server may fill: vLLM's `--gpu-memory-utilization`."""
    sequences: int = Field(8, ge=1)
    """Questions that a server answers at the same time, all others wait in it: vLLM's `--max-num-seqs`."""
    shared: bool = False
    """Whether workers of the same profile use the same card."""


class VisionRuntime(BaseModel):
    """Endpoints and limits. All times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: tuple[str, ...] = Field(examples=["http://localhost:8000/v1"])
    """One base URL or several that serve the same model: `http://node1:8000/v1`."""
    served_model: str = ""
    """The model's name at the server, where it is not `model`."""
    api_key_env: str = ""
    """Name of the environment variable with the key; if empty, no key is sent."""
    concurrency: int = Field(16, ge=1)
    """Largest number of requests in flight per process; a stage's `resources.concurrency` is how many it makes."""
    connect_seconds: float = Field(5.0, gt=0)
    first_byte_seconds: float = Field(120.0, gt=0)
    """Longest wait for the first byte, including the server's queue."""
    idle_seconds: float = Field(60.0, gt=0)
    """Longest wait between two parts of an answer."""
    total_seconds: float = Field(300.0, gt=0)
    """Longest duration of a request."""
    attempts: int = Field(4, ge=1)
    """Requests per question when the service fails, not counting repairs."""
    backoff_seconds: float = Field(1.0, gt=0)
    """Wait before the second request, doubled each time; a server's `Retry-After` has priority."""
    longest_backoff_seconds: float = Field(60.0, gt=0)
    health_seconds: float = Field(10.0, gt=0)
    """Interval of health checks of an endpoint that is down; doubled while it responds but fails requests."""
    start_seconds: float = Field(30.0, ge=0)
    """Longest wait of a worker's start for the first endpoint."""
    outage_seconds: float = Field(300.0, ge=0)
    """Longest wait of a request while every endpoint is down."""
    server: ServerRuntime | None = None
    """For `ffpdata serve-vlm` and `ffpdata doctor`; a client does not read it."""

    @field_validator("endpoint", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("endpoint")
    @classmethod
    def _urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not urls:
            raise ValueError("name at least one endpoint, e.g. http://localhost:8000/v1")
        return tuple(dict.fromkeys(_base_url(url) for url in urls))


def _base_url(url: str) -> str:
    """Return the base URL with `/v1` where no path was given."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"an endpoint is a URL such as http://localhost:8000/v1, not {url!r}")
    if parts.username or parts.password:
        raise ValueError("an endpoint holds no credentials: name the key's environment variable in api_key_env")
    return url.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"
