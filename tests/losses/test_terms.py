"""The terms that the keypoint family shares: what is computed for which weight."""

import jax
import jax.numpy as jnp
import pytest

from reenax.losses.reconstruction import pyramid_l1_loss, region_l1_loss
from reenax.losses.terms import PictureWeights, landmark_terms, picture_terms

PICTURES = jax.random.uniform(jax.random.key(0), (3, 2, 32, 32, 3))
PLAIN = {"perceptual": (), "scales": (1.0, 0.5)}


def test_a_weight_of_zero_leaves_a_term_out():
    prediction, deformed, driving = PICTURES
    assert picture_terms(PictureWeights(**PLAIN), {}, prediction, deformed, driving) == {}
    terms = picture_terms(PictureWeights(**PLAIN, l1=1.0, ssim=1.0), {}, prediction, deformed, driving)
    assert set(terms) == {"l1", "ssim"}


def test_the_warped_source_has_its_share():
    prediction, deformed, driving = PICTURES
    weights = PictureWeights(**PLAIN, l1=4.0, deformed=0.25)
    term = picture_terms(weights, {}, prediction, deformed, driving)["l1"]
    both = [pyramid_l1_loss(x, driving, weights.scales) for x in (prediction, deformed)]
    assert float(term) == pytest.approx(float(3.0 * both[0] + both[1]), rel=1e-6)


def test_regions_need_labels_and_weigh_the_prediction():
    prediction, deformed, driving = PICTURES
    landmarks = jax.random.uniform(jax.random.key(1), (2, 68, 2), minval=-0.5, maxval=0.5)
    weights = PictureWeights(**PLAIN, mouth=2.0)
    batch = {"driving_landmarks": landmarks}
    terms = picture_terms(weights, {}, prediction, deformed, driving, batch=batch)
    assert float(terms["mouth"]) == pytest.approx(2 * float(region_l1_loss(prediction, driving, landmarks[:, 48:68])))
    assert picture_terms(weights, {}, prediction, deformed, driving) == {}


def test_points_are_tied_to_the_chosen_landmarks():
    landmarks = jnp.arange(2 * 68 * 2, dtype=jnp.float32).reshape(2, 68, 2) / 100
    free = jnp.ones((2, 1, 2))  # a keypoint behind the tied ones
    exact = jnp.concatenate([landmarks[:, jnp.asarray((30, 8))], free], axis=1)
    weights = PictureWeights(**PLAIN, landmarks=3.0, landmark_points=(30, 8))
    batch = {"source_landmarks": landmarks, "driving_landmarks": landmarks}
    away = jnp.asarray([0.1, -0.3])[None, None]
    terms = landmark_terms(weights, exact, exact + away, batch, "landmarks")
    assert float(terms["landmarks"]) == pytest.approx(3.0 * (0.0 + 0.2) / 2, rel=1e-4)
    assert landmark_terms(weights, exact, exact, None) == {}
    assert landmark_terms(PictureWeights(**PLAIN), exact, exact, batch) == {}
