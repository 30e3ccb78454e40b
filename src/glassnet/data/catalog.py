"""The data sets known by name: digits, which ships with the package, MNIST and Fashion-MNIST."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from glassnet.data.dataset import Dataset, Split
from glassnet.data.download import locate
from glassnet.data.idx import read_idx
from glassnet.data.labels import encode
from glassnet.errors import DataError, did_you_mean
from glassnet.preprocessing import Preprocessing

DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True)
class IdxSet:
    """60,000 training and 10,000 test images of 28 x 28 grey pixels in four gzipped idx files."""

    classes: tuple[str, ...]
    mean: float
    std: float
    mirrors: tuple[str, ...]
    sha256: dict[str, str]


IDX_SETS: Final = {
    "mnist": IdxSet(
        classes=DIGITS,
        mean=0.1307,
        std=0.3081,
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion-mnist": IdxSet(
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        mean=0.2860,
        std=0.3530,
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
}
ALIASES: Final = {"fashion": "fashion-mnist"}


def load(name: str, *, cache: str | os.PathLike[str] | None = None) -> Dataset:
    """A known data set: "digits" (in the package), "mnist" or "fashion-mnist" (also "fashion").

    MNIST's files are taken from the folder $GLASSNET_DATA/<name>, gzipped or not, else from the cache, else
    downloaded there and held to their checksums. cache: a folder other than the user's cache folder.
    Raises DataError for an unknown name and where files cannot be had, FileFormatError for a damaged file.
    """
    if not isinstance(name, str):
        raise DataError(
            f"load takes the name of a data set, got {type(name).__name__}. "
            f"Images and labels that you hold go to glassnet.data.from_arrays."
        )
    known = ALIASES.get(name, name)
    if known == "digits":
        return _digits()
    if known not in IDX_SETS:
        choices = ["digits", *IDX_SETS, *ALIASES]
        raise DataError(f"There is no data set named {name!r}." + did_you_mean(name, choices))
    return _idx_set(known, Path(cache) if cache is not None else user_cache())


def _digits() -> Dataset:
    """1797 digits of 8 x 8 pixels, 1438 to train and 359 to test; see digits/SOURCE.md."""
    with files("glassnet.data").joinpath("digits", "digits.npz").open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        ink, labels, test = archive["ink"], archive["labels"].astype(np.int64), archive["test"]
    images = np.rint(ink[..., None] * (255 / 16)).astype(np.uint8)
    held = np.zeros(len(labels), bool)
    held[test] = True
    every = Split(images, labels, DIGITS, Preprocessing((8, 8), (0.3055,), (0.3759,), "L"))
    return Dataset("digits", train=every[~held], test=every[held])


def _idx_set(name: str, cache: Path) -> Dataset:
    known = IDX_SETS[name]
    folder = os.environ.get("GLASSNET_DATA")
    paths = locate(name, known.sha256, known.mirrors, folder=Path(folder) if folder else None, cache=cache)
    preprocessing = Preprocessing((28, 28), (known.mean,), (known.std,), "L")

    def split(prefix: str, count: int) -> Split:
        images = read_idx(paths[f"{prefix}-images-idx3-ubyte.gz"], (count, 28, 28))[..., None]
        labels = read_idx(paths[f"{prefix}-labels-idx1-ubyte.gz"], (count,)).astype(np.int64)
        return Split(images, encode(labels, known.classes, f"{name} labels"), known.classes, preprocessing)

    return Dataset(name, train=split("train", 60_000), test=split("t10k", 10_000))


def user_cache() -> Path:
    """The folder that downloads are kept in."""
    import pooch

    return Path(pooch.os_cache("glassnet"))
