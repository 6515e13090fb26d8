import numpy as np

from ffpdata.media.flow import CameraPath
from ffpdata.models.classical.clean_plate import clean_plate, plate_box

STILL = CameraPath(np.tile(np.eye(3), (9, 1, 1)), 4, np.ones(9), still=True)


def passing():
    """A gray background of 100 that a white square crosses, and a rare visitor that no mask tells of."""
    frames = np.full((9, 48, 64, 3), 100, np.uint8)
    masks = np.zeros((9, 48, 64), bool)
    for t in range(9):
        masks[t, 16:32, 4 + 5 * t : 20 + 5 * t] = True
    frames[masks] = 255
    frames[3, 20:24, 50:54] = 0
    return frames, masks


def test_the_plate_shows_what_was_hidden_and_no_rare_visitor():
    frames, masks = passing()
    plate = clean_plate(frames, masks, STILL, plate_box(masks, STILL.to_reference, 4), 4)
    assert plate.revealed[plate.needed].all()
    assert (plate.image[plate.needed] == 100).all()


def test_a_view_tells_seen_from_guessed_and_from_not_asked_for():
    frames, masks = passing()
    masks[:, 18:22, 30:34] = True  # hidden in every frame
    plate = clean_plate(frames, masks, STILL, plate_box(masks, STILL.to_reference, 4), 4)
    picture, seen, guessed = plate.view(0, 0, 0, (64, 48))
    assert picture.shape == (48, 64, 3)
    assert guessed.sum() == 16
    assert guessed[18:22, 30:34].all()
    assert seen[17, 10]
    assert not seen[40, 60]
    assert not guessed[40, 60]


def test_a_plate_of_a_run_prefers_what_is_near_in_time():
    frames, masks = passing()
    frames[:4, 10:40, 50:60] = 20  # something stands there early, and is gone later
    box = plate_box(masks, STILL.to_reference, 4)
    late = clean_plate(frames, masks, STILL, box, 4, run=range(7, 9))
    view = late.view(8, 0, 0, (64, 48))[0]
    assert (view[18:30, 51:59] == 100).mean() > 0.9
