import numpy as np
import pytest

import cifl_tf as cifl
from cifl_tf._compat import keras


def segmenter():
    network = cifl.build_segmenter(None, 3, num_filters=2, num_levels=2)
    return cifl.Segmenter(network), cifl.SegmentationLoss()


def features():
    return cifl.CIFL(cifl.build_encoder(num_features=3, num_filters=2)), cifl.ContrastiveLoss(
        crop=8
    )


@pytest.mark.parametrize("make", [segmenter, features])
@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.legacy.Adam])
def test_the_training_step_is_traced_once(make, optimizer, monkeypatch):
    model, loss = make()
    model.compile(optimizer(0.01), loss)
    traced = []
    step = type(model).train_step
    monkeypatch.setattr(
        type(model), "train_step", lambda self, data: traced.append(1) or step(self, data)
    )
    images = np.random.default_rng(0).random((2, 24, 24, 1)).astype(np.float32)
    labels = np.ones_like(images, np.int32) if make is segmenter else 1 - images
    before = model.get_weights()
    model.fit(images, labels, verbose=0)
    # Legacy optimizers make their variables in the first step.
    assert len(traced) == (1 if optimizer is keras.optimizers.Adam else 2)
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))
