"""The plan: what fits into the time, and that no more is promised."""

import itertools

import pytest

from keras_ctxattr.clustering import AlternationRecipe
from keras_ctxattr.pipeline.plan import Pace, make_plan, measure_pace

PACE = Pace(patch=0.002, photograph=0.25)


def clustering_seconds(plan, count):
    return plan.patches_per_image * count * (0.012 + 0.7 * plan.copies * PACE.patch)


@pytest.mark.parametrize(
    ("count", "hours"), itertools.product((40, 300, 5_000), (0.5, 1.0, 4.0, None))
)
def test_stages_fill_the_time_and_no_more(count, hours):
    plan = make_plan(count, PACE, hours)
    total = 3600 * hours if hours else 3600 + 60 + count * 0.27
    assert plan.total_seconds <= total * 1.001
    assert plan.total_seconds >= total * 0.95
    assert plan.seconds["clusters"] == pytest.approx(clustering_seconds(plan, count), rel=1e-6)
    assert plan.seconds["context"] == pytest.approx(60 * plan.context_minutes, abs=0.6)
    assert 1 <= plan.patches_per_image <= 16 and 2 <= plan.copies <= 20


def test_what_cannot_be_done_in_the_time_names_the_time_that_it_takes():
    with pytest.raises(ValueError, match=r"`hours` must be at least [45]\.\d+ .*Received: 1$"):
        make_plan(50_000, PACE, 1.0)
    needed = 5.0
    assert make_plan(50_000, PACE, needed).total_seconds <= 3600 * needed * 1.1


def test_without_hours_any_number_of_photographs_is_taken():
    plan = make_plan(200_000, PACE)
    assert plan.total_seconds == pytest.approx(3600 + 60 + 200_000 * 0.27, rel=0.1)


def test_few_photographs_give_their_time_back_to_context_prediction():
    few, many = make_plan(40, PACE, 1.0), make_plan(2_000, PACE, 1.0)
    assert few.copies == 20 and few.patches_per_image == 16
    assert few.context_minutes > 2 * many.context_minutes


def test_pace_is_measured():
    recipe = AlternationRecipe(
        size=64, backbone="small", backbone_options={"width": 4, "num_features": 8}
    )
    pace = measure_pace(recipe)
    assert 0 < pace.patch < 0.1 and 0 < pace.photograph < 10
