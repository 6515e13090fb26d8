import pytest

from ffpdata.core.licences import CLASSES, licence_class, strictest


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CC0-1.0", "public-domain"),
        ("Public Domain", "public-domain"),
        ("Apache-2.0", "attribution"),
        ("MIT AND Apache-2.0", "attribution"),
        ("CC-BY 3.0", "attribution"),
        ("CC BY-SA 4.0", "share-alike"),
        ("GPL-3.0-only OR MIT", "attribution"),
        ("GPL-3.0-only AND MIT", "share-alike"),
        ("CC-BY-NC-SA-4.0", "non-commercial"),
        ("Adobe Research License", "non-commercial"),
        ("CC BY-NC-ND 4.0", "restricted"),
        ("MIT AND LicenseRef-Proprietary", "restricted"),
        ("SAM License", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
        ("MIT AND whatever", "unknown"),
        ("PERMIT me", "unknown"),
    ],
)
def test_the_class_of_a_licence(text: str | None, found: str) -> None:
    assert licence_class(text) == found


def test_the_strictest_wins_and_nothing_is_unknown() -> None:
    assert strictest(["attribution", "non-commercial", "public-domain"]) == "non-commercial"
    assert strictest(CLASSES) == "unknown"
    assert strictest([]) == "unknown"
