"""Choose the object among the components that differ from the background: the one that moves most and farthest."""

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
    """A rough mask, bool (h, w), of the object in one frame, from which it is propagated."""

    frame: int
    mask: Mask


@dataclass
class _Track:
    """Components of the difference linked over frames, by frame, and the sum of their motion."""

    members: dict[int, Mask]
    motion: float

    def travel(self, path: CameraPath) -> float:
        """Return the distance that it moves relative to the camera, in its own sizes."""
        return travel(self.members, path)


def travel(members: dict[int, Mask], path: CameraPath) -> float:
    """Return the distance between the outermost positions of an object over the square root of its area."""
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


def best_track(evidence: ClipEvidence, differs: Masks, floor: int) -> Seed | None:
    """Return a seed on the track that moves most and farthest; arguments as for `best_members`.

    Returns:
        The seed, or None where nothing moves for an eighth of the clip.
    """
    members = best_members(evidence, differs, floor)
    return _clearest_frame(members, len(differs)) if members else None


def best_members(evidence: ClipEvidence, differs: Masks, floor: int) -> dict[int, Mask]:
    """Link components from frame to frame into tracks.

    Args:
        evidence: the clip and its measures.
        differs: bool (T, h, w), pixels that differ from the background.
        floor: smallest number of pixels of a component.

    Returns:
        Frame to mask, bool (h, w), of the track that moves most and farthest; empty where nothing moves for an eighth
        of the clip.
    """
    flows, motion, level = evidence.flows, evidence.motion, evidence.level
    running: list[_Track] = []
    tracks: list[_Track] = []
    for t in range(len(differs)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(differs[t].view(np.uint8))
        found = [labels == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= floor]
        speeds = [np.minimum(motion[t][m].astype(np.float32), 8) for m in found]
        motions = [float(s.sum()) if (s > level).any() else 0.0 for s in speeds]
        free = set(range(len(found)))
        continued = []
        for track in sorted(running, key=lambda k: -k.motion):
            warped = flows.warp_mask(track.members[t - 1], t - 1, t)
            overlaps = {i: int((warped & found[i]).sum()) for i in free}
            best = max(overlaps, key=lambda i: overlaps[i], default=-1)
            if best < 0 or overlaps[best] < 0.3 * min(warped.sum(), found[best].sum()):
                continue
            free.discard(best)
            track.members[t] = found[best]
            track.motion += motions[best]
            continued.append(track)
        started = [_Track({t: found[i]}, motions[i]) for i in sorted(free, key=lambda i: -motions[i])[:6]]
        tracks += started
        running = continued + started
    shortest = max(3, len(differs) // 8)
    score = {id(k): k.motion * min(k.travel(evidence.path), 3.0) ** 2 for k in tracks if len(k.members) >= shortest}
    if not score or max(score.values()) <= 0:
        return {}
    return max((k for k in tracks if id(k) in score), key=lambda k: score[id(k)]).members


def _clearest_frame(members: dict[int, Mask], count: int) -> Seed:
    """Return the frame of a track whose component has about the median size, is off the border and near mid-clip."""
    areas = {t: float(m.sum()) for t, m in members.items()}
    median_area = float(np.median(list(areas.values())))

    def penalty(t: int) -> float:
        mask = members[t]
        edge = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
        return abs(float(np.log(areas[t] / median_area))) + 0.02 * float(edge) + 0.002 * abs(t - count / 2)

    frame = min(areas, key=penalty)
    return Seed(frame, members[frame])
