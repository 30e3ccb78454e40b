"""A chain of layers that knows its input shape: it owns its parameters, predicts and traces."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from glassnet.backends import choose_backend, one_blas_thread
from glassnet.errors import ConfigError, DataError, MissingEngineError, NotFiniteError, ShapeError
from glassnet.layers.base import Layer
from glassnet.layers.chain import Chain, Layers
from glassnet.losses import Loss, SoftmaxCrossEntropy, targets_for
from glassnet.ops.base import Array, Grads, Ops
from glassnet.ops.reference import ReferenceOps
from glassnet.plan.record import host_layers
from glassnet.plan.symbols import RecordingError
from glassnet.preprocessing import Preprocessing, image_array
from glassnet.shapes import Shape, batched, checked_shape
from glassnet.store import Store
from glassnet.summary import Summary, summarise
from glassnet.trace import Trace, TracingOps

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

BATCH = 256
"""Images that a prediction in NumPy takes at once."""
COMPILED_BATCH = 2048
"""The same on the compiled engine, if they are small: its threads start and end together once a batch."""
BATCH_BYTES = 1 << 25


class Sequential(Chain):
    """Layers one after another. With an `input_shape` (H, W, C) it is a network, built from `seed`.

    classes: the class names; preprocessing: how raw images become input. Both are set by `fit` and saved with
    the model. `loss` says how scores are read as predictions.
    """

    def __init__(self, layers: Layers, *, input_shape: Shape | None = None, seed: int = 0) -> None:
        super().__init__(layers)
        self.seed = seed
        self.classes: tuple[str, ...] | None = None
        self.preprocessing: Preprocessing | None = None
        self.loss: Loss = SoftmaxCrossEntropy()
        self.backend, self.processor = "auto", "host"
        self._predictors: dict[tuple[Any, ...], Callable[[np.ndarray], np.ndarray]] = {}
        if input_shape is not None:
            shape = checked_shape(input_shape, "input_shape must be")
            self.build_named("", shape, np.random.default_rng(seed))
            self.store = Store(self.walk())

    def __getitem__(self, name: str) -> Layer:
        """The layer of that dotted name: net["residual_1.main.conv2d_2"]."""
        if not isinstance(name, str):
            raise ConfigError(
                f"A layer is found by its name, got {name!r}. The network has {', '.join(self.layers)}."
            )
        layer: Layer = self
        for part in name.split("."):
            children = layer.children()
            if part not in children:
                raise ConfigError(
                    f"There is no layer {name!r}. {layer.name or 'The network'} has {', '.join(children)}."
                )
            layer = children[part]
        return layer

    def summary(self) -> Summary:
        """Output shape, parameters, multiply-adds, activation bytes and receptive field of each layer.

        Layers that the compiled engine runs in NumPy are marked "(host)".
        """
        return summarise(self.built(), host_layers(self, self.input_shape or (), ReferenceOps))

    def built(self) -> Self:
        """Itself, or an error where it has no input shape yet."""
        if self.input_shape is None:
            raise ConfigError(
                "This Sequential has no input_shape yet. Write Sequential([...], input_shape=(H, W, C))."
            )
        return self

    @property
    def outputs(self) -> int:
        """K of the scores (N, K) that a loss reads, or an error where the network makes no such scores."""
        shape = self.built().output_shape or ()
        if len(shape) != 1:
            raise ShapeError(
                f"A loss needs scores of shape (N, K), the network ends in {batched(shape)}. "
                "Put Flatten() or GlobalAvgPool2d() before its last layer."
            )
        return shape[0]

    def as_dtype(self, dtype: type) -> Self:
        """A copy with parameters of its own in that precision (float64 for gradient checks)."""
        twin = copy.deepcopy(self.built())
        twin.store = Store(twin.walk(), dtype)
        return twin

    # Passes --------------------------------------------------------------------------------------------

    def loss_and_gradients(
        self, ops: Ops, x: Array, target: Array, share: Array, loss: Loss | None = None
    ) -> tuple[Array, Array, Grads]:
        """(losses (N,), scores (N, K), gradient of the summed losses by parameter name), in training mode."""
        loss = loss or self.loss
        scores, saved = ops.call(self, x, True)
        losses = loss.forward(ops, scores, target, share)
        _, grads = ops.call_backward(self, loss.backward(ops, scores, target, share), saved, input_grad=False)
        return losses, scores, grads

    def inputs(self, images: Any) -> np.ndarray:
        """Raw images as finite network input (N, H, W, C), in its precision, checked against its shape."""
        x = self._batch(images)
        if self.preprocessing is not None:
            x = self.preprocessing.apply(x)
        elif x.dtype.kind != "f":
            raise DataError(
                f"Without a preprocessing the input must be float, got {x.dtype}. Train the network with "
                "`fit`, set net.preprocessing, or convert it with x.astype(np.float32)."
            )
        if x.shape[1:] != self.input_shape:
            hint = ""
            if x.ndim == 4 and (*x.shape[2:], x.shape[1]) == self.input_shape:
                hint = " Images are channels-last here: x.transpose(0, 2, 3, 1)."
            raise ShapeError(
                f"The input must have shape {batched(self.input_shape or ())}, got {x.shape}.{hint}"
            )
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            x = x.astype(self.store.values.dtype, copy=False)
        if self.preprocessing is None and not np.isfinite(x).all():  # a preprocessing has looked already
            raise DataError("The input must be finite numbers, but holds NaN or infinity.")
        return x

    def _batch(self, images: Any) -> np.ndarray:
        """The images as an array, unless they are one image, which would be read as grey ones (N, H, W)."""
        shape = self.built().input_shape or ()
        try:
            array = np.asarray(images)
        except ValueError as error:
            raise ShapeError(
                f"The images must all have the shape {shape}, got images of different shapes."
            ) from error
        one = array.ndim == len(shape) and array.shape[-1:] == shape[-1:]
        grey = array.shape[1:] == shape[:-1]  # (N, H, W), whose last side may be as long as the channels
        if array.shape == shape or (one and not grey):
            raise ShapeError(
                f"The input must have shape {batched(shape)}, got {array.shape}. "
                "One image is a batch of one: x[None]."
            )
        return array

    def raw_images(self, images: Any) -> np.ndarray:
        """Images (N, H, W, C) to predict, of which `inputs` is sure to make network input; uint8 stays so."""
        how = self.preprocessing
        if how is None:
            return self.inputs(images)
        raw = image_array(self._batch(images), std=how.std)
        self.inputs(raw[:1] if raw.shape[1:] == self.input_shape else raw)  # an error tells the whole shape
        return raw

    def scores(self, images: Any) -> np.ndarray:
        """(N, K): the last layer's output in evaluation mode."""
        raw = self.raw_images(images)
        if not len(raw):
            raise DataError("Prediction needs at least one image, got none.")
        run = self.predictor(None if self.preprocessing is None else raw.dtype)
        batch = getattr(run, "capacity", BATCH)
        batches = (raw[i : i + batch] for i in range(0, len(raw), batch))
        return finite(np.concatenate([self.over_views(run, x) for x in batches]))

    def over_views(self, run: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
        """The mean of run's scores over the views of images (n, H, W, C) that the preprocessing asks for."""
        if self.preprocessing is None or self.preprocessing.tta == "none":
            return run(x)
        return (run(x) + run(x[:, :, ::-1])) / 2

    def predictor(self, raw: np.dtype[Any] | None = None) -> Callable[[np.ndarray], np.ndarray]:
        """Inputs (N, H, W, C) -> scores (N, K), on this network's backend; recorded and compiled once.

        raw: takes raw images of that dtype, which are made input as they are read.
        """
        feed = None if raw is None or self.preprocessing is None else self.preprocessing.scale_shift(raw)
        scaled = None if feed is None else (raw, *(array.tobytes() for array in feed))
        key = self.backend, self.processor, scaled
        if key not in self._predictors:
            self._predictors[key] = self._new_predictor(raw, feed)
        return self._predictors[key]

    def _new_predictor(
        self, raw: np.dtype[Any] | None, feed: tuple[np.ndarray, np.ndarray] | None
    ) -> Callable[[np.ndarray], np.ndarray]:
        shape = self.built().input_shape or ()
        if choose_backend(self.backend) == "compiled" and self.store.values.dtype == np.float32:
            capacity = max(1, min(COMPILED_BATCH, BATCH_BYTES // (4 * math.prod(shape))))
            try:
                from glassnet.engine.machine.cpu import processor
                from glassnet.engine.steps import Prediction

                cpu = processor(self.processor)
                given = None if feed is None else (raw, *feed)
                return Prediction(self, shape, capacity=capacity, feed=given, cpu=cpu, host_ops=ReferenceOps)
            except (MissingEngineError, RecordingError) as error:
                if self.backend == "compiled":
                    raise
                log.info("Predicting on the reference backend: %s", error)

        def run(images: np.ndarray) -> np.ndarray:
            x = images if feed is None else self.inputs(images)
            with one_blas_thread():
                return ReferenceOps().call(self, x, False)[0]

        return run

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_predictors": {}}  # a copy records its own

    def predict_proba(self, images: Any) -> np.ndarray:
        """(N, K): probabilities of the classes, as the loss reads the scores."""
        return probabilities(self.scores(images), self.loss.output)

    def predict(self, images: Any) -> np.ndarray:
        """(N,): class names, or class numbers where the network has no names."""
        best = self.scores(images).argmax(axis=-1)
        return best if self.classes is None else np.array(self.classes)[best]

    def labels(self, y: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Class names and whole floats as class numbers; numbers and soft labels as they are."""
        array = np.asarray(y)
        if array.dtype.kind not in "iufU":
            raise DataError(
                f"The labels must be whole numbers, class names or soft labels (N, K), got {array.dtype}. "
                "Convert them, for instance with np.array(labels).astype(str)."
            )
        if array.ndim == 1 and array.dtype.kind == "U":
            return self._numbers(array)
        if array.ndim == 0 or array.dtype.kind == "U":
            raise ShapeError(
                f"The labels must have shape (N,), or (N, K) as soft labels, got {array.shape}. "
                "One label is a list of one."
            )
        with np.errstate(invalid="ignore"):  # NaN is no whole number either
            whole = array.astype(np.int64)
        return whole if array.ndim == 1 and np.array_equal(whole, array) else array

    def _numbers(self, names: np.ndarray) -> np.ndarray:
        """Class names (N,) as class numbers."""
        numbers = {name: number for number, name in enumerate(self.classes or ())}
        if unknown := sorted(set(names.tolist()) - numbers.keys()):
            raise DataError(
                f"Unknown class {', '.join(unknown)}. This network knows {', '.join(numbers) or 'no names'}."
            )
        return np.array([numbers[name] for name in names.tolist()])

    def labelled(self, images: Any, y: Sequence[Any] | np.ndarray) -> tuple[Array, Array, Array]:
        """A batch for `loss_and_gradients`, checked: (x (N, H, W, C), target (N, K), share (N,))."""
        x, labels = self.inputs(images), self.labels(y)
        if not len(x):
            raise DataError("There must be at least one image with its label, got none.")
        if len(labels) != len(x):
            raise ShapeError(f"The labels must be one for each of the {len(x)} images, got {len(labels)}.")
        labels = targets_for(self.loss, labels, self.outputs)
        target, share = self.loss.targets(labels, self.outputs)
        return x, target.astype(x.dtype), share.astype(x.dtype)

    def trace(self, images: Any, y: Sequence[Any] | np.ndarray, *, seed: int = 0, step: int = 0) -> Trace:
        """Every activation and gradient of one training pass: trace["conv2d_1"].output, .grads["weight"]."""
        ops = TracingOps(seed=seed, step=step)
        losses, scores, grads = self.loss_and_gradients(ops, *self.labelled(images, y))
        return ops.finish(losses, scores, dict(self.store.checked(grads)))

    # Files ---------------------------------------------------------------------------------------------

    def save(self, path: Any) -> None:
        """Write the whole model (layers, weights, classes, preprocessing) to a file for `glassnet.load`."""
        from glassnet.io.model import save_model

        save_model(self, path)


def finite(scores: np.ndarray) -> np.ndarray:
    """Scores (N, ...) as they are, or the error of a network that makes NaN or infinity of images."""
    wrong = int((~np.isfinite(scores)).reshape(len(scores), -1).any(axis=-1).sum())
    if wrong:
        raise NotFiniteError(
            f"The network's scores of {wrong} of {len(scores)} images are NaN or infinite. "
            "Look at its weights, or train again with a lower learning rate."
        )
    return scores


def probabilities(scores: np.ndarray, output: str) -> np.ndarray:
    """Scores read as a loss reads them: "softmax", "sigmoid", or as they are."""
    if output == "softmax":
        return ReferenceOps().softmax(scores)
    if output == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(scores, -80, 80)))
    return scores
