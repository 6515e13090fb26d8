"""The table of losses, and their curve."""

from ffpdata.training.losses import loss_curve, losses_table


def test_the_table_of_losses():
    assert (
        losses_table([(1, 0.5), (2, 0.25)], [(0, 1.0), (2, 0.75)])
        == b"step,loss,held_out\n0,,1.0\n1,0.5,\n2,0.25,0.75\n"
    )


def test_loss_curves() -> None:
    drawn = loss_curve([(n, 1.0 - n / 1000, 0.5 if n % 100 == 0 else None) for n in range(1000)])
    assert drawn
    assert (drawn.first, drawn.last, len(drawn.held_out)) == (0, 999, 10)
    assert len(drawn.smooth.split()) == 400
    assert drawn.first_loss > 0.9
    assert drawn.last_loss < 0.1
    places = [tuple(map(float, point.split(","))) for point in drawn.smooth.split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # it falls: y grows downwards
    assert all(0 <= value <= 1000 for place in places for value in place)
    assert loss_curve([]) is None
    assert loss_curve([(1, float("nan"), None)]) is None
    one = loss_curve([(5, 0.3, None)])
    assert one
    assert (one.first, one.last, one.smooth) == (5, 5, "500.0,500.0")
