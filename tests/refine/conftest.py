"""Run folders with many finished pairs, as the tests of the review page have them."""

from tests.review.conftest import make, tiny_clips

__all__ = ["make", "tiny_clips"]
