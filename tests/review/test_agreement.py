import pytest

from ffpdata.curate.verdicts import Verdict
from ffpdata.review.agreement import agreements, cohen_kappa


def test_kappa_of_the_textbook() -> None:
    """Of 50 grant proposals 20 both accept, 15 both refuse, 5 and 10 they disagree on: 0.4."""
    judged = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(judged) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("judged", "kappa"),
    [
        ([(True, True), (False, False)], 1.0),
        ([(True, False), (False, True)], -1.0),
        ([(True, True), (True, False), (False, True), (False, False)], 0.0),
        ([(True, True)] * 3, None),
        ([], None),
    ],
)
def test_kappa_at_its_ends(judged: list[tuple[bool, bool]], kappa: float | None) -> None:
    assert cohen_kappa(judged) == kappa


def test_every_two_reviewers_are_compared() -> None:
    def given(**verdicts: str) -> dict[str, Verdict]:
        return {name: Verdict(name, verdict) for name, verdict in verdicts.items()}

    found = agreements(
        [
            given(bob="accept", ann="accept"),
            given(ann="reject", bob="accept", eve="reject"),
            given(ann="skip", bob="flag"),
        ]
    )
    assert [(a.reviewers, a.pairs, a.same) for a in found] == [
        (("ann", "bob"), 2, 0.5),
        (("ann", "eve"), 1, 1.0),
        (("bob", "eve"), 1, 0.0),
    ]
