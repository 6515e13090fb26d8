"""What shapes a served model's answers (`settings`, in every key), and how it is reached (`runtime`, in none)."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


class View(BaseModel):
    """What the model is shown of a medium."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(8, ge=1, le=128)
    """Frames of a clip, evenly spread, the first and the last among them; a shorter clip is shown whole."""
    clip_pixels: int = Field(644 * 364, ge=56 * 56)
    """Largest area of such a frame: a larger one is scaled down. The default is 16:9 in multiples of 28."""
    image_pixels: int = Field(1288 * 728, ge=56 * 56)
    """Largest area of a still."""


class ViewSettings(BaseModel):
    """What one question changes in the `View`; None leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int | None = Field(None, ge=1, le=128)
    clip_pixels: int | None = Field(None, ge=56 * 56)
    image_pixels: int | None = Field(None, ge=56 * 56)


class VisionSettings(View):
    """What shapes the answer."""

    multiple: int = Field(28, ge=1, le=256)
    """Width and height shown are multiples of it, so that the server resizes nothing: 28 for Qwen2.5-VL (patches of 14,
    merged by 2)."""
    jpeg_quality: int = Field(92, ge=1, le=100)
    clips_as: Literal["video", "images"] = "video"
    """`video`: the frames as one `video_url` of JPEGs, which vLLM reads and places in time. `images`: each frame as an
    image under a heading, which every server with several images per question reads."""
    questions: dict[str, ViewSettings] = {}
    """Prompt name to what it is shown otherwise, e.g. `{screen: {frames: 16}}`."""
    schema_mode: Literal["json_schema", "json_object", "text"] = "json_schema"
    """How the server is held to the prompt's schema: strictly, to JSON alone, or not at all. In the last two the schema
    is written below the question. The answer is checked here in each case."""
    repairs: int = Field(1, ge=0, le=3)
    """How often a model is shown what was wrong with its answer and asked again."""
    temperature: float = Field(0.0, ge=0, le=2)
    seed: int = 0
    max_tokens: int = Field(512, ge=16)
    """Longest answer."""

    def view(self, question: str) -> View:
        """Return what the prompt `question` is shown."""
        own = self.questions.get(question)
        base = {name: getattr(self, name) for name in View.model_fields}
        return View(**base | (own.model_dump(exclude_none=True) if own else {}))


class VisionRuntime(BaseModel):
    """How the model is reached. All times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: tuple[str, ...] = Field(examples=["http://localhost:8000/v1"])
    """One base URL or several that serve the same model: `http://node1:8000/v1`."""
    served_model: str = ""
    """The model's name at the server, where it is not `model`."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; none is sent where it is empty."""
    concurrency: int = Field(16, ge=1)
    """Requests in flight from one process; a stage's `resources.concurrency` says how many it asks for."""
    connect_seconds: float = Field(5.0, gt=0)
    first_byte_seconds: float = Field(120.0, gt=0)
    """Until the answer begins; the server's own queue counts."""
    idle_seconds: float = Field(60.0, gt=0)
    """Longest silence within an answer."""
    total_seconds: float = Field(300.0, gt=0)
    """One request from first to last byte."""
    attempts: int = Field(4, ge=1)
    """Requests per question when the service fails; repairs come on top."""
    backoff_seconds: float = Field(1.0, gt=0)
    """Wait before the second request, doubled each time; a server's `Retry-After` wins."""
    longest_backoff_seconds: float = Field(60.0, gt=0)
    health_seconds: float = Field(10.0, gt=0)
    """How often an endpoint that is down is looked at again; doubled while it answers but does not work."""
    start_seconds: float = Field(30.0, ge=0)
    """How long a worker's start waits until one endpoint answers."""
    outage_seconds: float = Field(300.0, ge=0)
    """How long a question waits while every endpoint is down."""

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
