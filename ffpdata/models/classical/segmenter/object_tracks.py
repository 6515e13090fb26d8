"""Which of the things that differ from the background is the object: the one that moves most and gets farthest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.media.flow import CameraPath
    from ffpdata.models.classical.segmenter.pixel_evidence import ClipEvidence
    from ffpdata.models.protocols import Masks

    Mask = NDArray[np.bool_]


@dataclass
class Seed:
    """A rough mask, bool (h, w), of the object in one frame to start from."""

    frame: int
    mask: Mask


@dataclass
class _Track:
    """Components of the difference that follow one another, by frame, and how much motion they carry."""

    members: dict[int, Mask]
    motion: float

    def travel(self, path: CameraPath) -> float:
        """How far it gets, in its own sizes, once the camera's motion is taken away."""
        return travel(self.members, path)


def travel(members: dict[int, Mask], path: CameraPath) -> float:
    """Distance between the outermost places of an object over the square root of its area."""
    centres, areas = [], []
    for t, mask in members.items():
        moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
        if area := moments["m00"]:
            at = np.array([[[moments["m10"] / area, moments["m01"] / area]]])
            centres.append(cv2.perspectiveTransform(at, path.to_reference[t])[0, 0])
            areas.append(area)
    if len(centres) < 2:
        return 0.0
    low, high = np.quantile(np.array(centres), (0.05, 0.95), axis=0)
    return float(np.hypot(*(high - low)) / np.sqrt(np.median(areas)))


def best_track(observed: ClipEvidence, differs: Masks, floor: int) -> Seed | None:
    """Link components from frame to frame; return a seed on the track that moves most and gets farthest.

    Args:
        observed: the clip.
        differs: bool (T, h, w), what differs from the background.
        floor: fewest pixels of a component.

    Returns:
        The seed, or None where nothing moves for an eighth of the clip.
    """
    flows, motion, level = observed.flows, observed.motion, observed.level
    running: list[_Track] = []
    tracks: list[_Track] = []
    for t in range(len(differs)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(differs[t].view(np.uint8))
        found = [labels == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= floor]
        speeds = [np.minimum(motion[t][m].astype(np.float32), 8) for m in found]
        carried = [float(s.sum()) if (s > level).any() else 0.0 for s in speeds]
        free = set(range(len(found)))
        going = []
        for track in sorted(running, key=lambda k: -k.motion):
            moved = flows.bring(track.members[t - 1], t - 1, t)
            overlaps = {i: int((moved & found[i]).sum()) for i in free}
            best = max(overlaps, key=lambda i: overlaps[i], default=-1)
            if best < 0 or overlaps[best] < 0.3 * min(moved.sum(), found[best].sum()):
                continue
            free.discard(best)
            track.members[t] = found[best]
            track.motion += carried[best]
            going.append(track)
        fresh = [_Track({t: found[i]}, carried[i]) for i in sorted(free, key=lambda i: -carried[i])[:6]]
        tracks += fresh
        running = going + fresh
    shortest = max(3, len(differs) // 8)
    score = {id(k): k.motion * min(k.travel(observed.path), 3.0) ** 2 for k in tracks if len(k.members) >= shortest}
    if not score or max(score.values()) <= 0:
        return None
    best_track = max((k for k in tracks if id(k) in score), key=lambda k: score[id(k)])
    return _clearest(best_track, len(differs))


def _clearest(track: _Track, count: int) -> Seed:
    """Pick the frame of a track whose component has the usual size, is clear of the border and near the middle."""
    areas = {t: float(m.sum()) for t, m in track.members.items()}
    usual = float(np.median(list(areas.values())))

    def fault(t: int) -> float:
        mask = track.members[t]
        edge = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
        return abs(float(np.log(areas[t] / usual))) + 0.02 * float(edge) + 0.002 * abs(t - count / 2)

    frame = min(areas, key=fault)
    return Seed(frame, track.members[frame])
