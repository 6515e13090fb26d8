"""The catalogue is complete, and only networks under open licences are installed unasked."""

from __future__ import annotations

import re

import pytest

from ffpdata.core.errors import UsageError
from ffpdata.models.packaged.catalogue import MODELS, chosen, packaged

OPEN = {"MIT", "Apache-2.0", "BSD-2-Clause"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_network_is_pinned_by_digests_and_has_licences(model) -> None:
    for part in model.parts:
        assert re.fullmatch(r"[0-9a-f]{64}", part.sha256)
        assert 0 < part.size < 30e6
    digest = r"[0-9a-f]{64}" if model.package.registry == "pypi" else r"sha512-[A-Za-z0-9+/]{86}=="
    assert re.fullmatch(digest, model.package.digest)
    assert re.fullmatch(r"[\d.]+", model.package.version)
    assert model.source.startswith("https://github.com/")
    assert model.licence_source
    if model.default:
        assert {model.package.licence, model.weights_licence} <= OPEN


def test_names_choose_networks_and_all_leaves_out_what_is_proprietary() -> None:
    assert [model.name for model in chosen([])] == ["u2netp", "objectron_ssd", "ppocr_det", "centerface"]
    assert {model.name for model in chosen([], everything=True)} == {*(m.name for m in chosen([])), "opennsfw"}
    assert [model.name for model in chosen(["sscd_distilled", "sscd_distilled"])] == ["sscd_distilled"]
    with pytest.raises(UsageError, match=r"'u2net'; did you mean 'u2netp'\?"):
        packaged("u2net")
