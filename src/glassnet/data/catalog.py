"""Data by name or path: digits, which ships with the package, MNIST, Fashion-MNIST, CIFAR-10; own files."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from glassnet.data.cifar10 import ARCHIVE, ARCHIVE_SHA256, MIRRORS, form_of, load_cifar10
from glassnet.data.csv_images import load_csv
from glassnet.data.dataset import Dataset, Split
from glassnet.data.download import locate
from glassnet.data.idx import holds_idx, load_idx, read_idx
from glassnet.data.labels import encode
from glassnet.data.manifest import is_manifest, names_files
from glassnet.data.npz import load_npz
from glassnet.errors import ConfigError, DataError, did_you_mean
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
NAMES: Final = ("digits", *IDX_SETS, "cifar10", *ALIASES)


def load(
    source: str | os.PathLike[str],
    /,
    *,
    cache: str | os.PathLike[str] | None = None,
    like: Preprocessing | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Dataset:
    """A data set by its name, or one in a file or folder of yours.

    | source | read by, with its options |
    |---|---|
    | "digits" (in the package) | no options |
    | "mnist", "fashion-mnist" (also "fashion") | no options |
    | "cifar10", the official archive, or a folder of CIFAR-10 | `load_cifar10` |
    | a .csv or .tsv file of paths and classes | `load_folder` |
    | a .csv or .csv.gz file of pixels | `load_csv` |
    | an .npz file | `load_npz` |
    | a folder of idx files with MNIST's names | `load_idx` |
    | any other folder | `load_folder` |

    The files of a set known by name are taken from the folder $GLASSNET_DATA/<name>, gzipped or not, else
    from the cache, else downloaded there and held to their checksums. cache: a folder other than the user's
    cache folder. A name comes before a folder that is called so: write "./mnist" for the folder. Files and
    folders that are not there are looked for in $GLASSNET_DATA.
    like: a model's preprocessing: photos are read to its size, channels and resize, unless options say other.
    progress: called with the photos decoded, and all, where there are any to decode.
    Raises DataError for an unknown name and where files cannot be had, FileFormatError for a damaged file,
    ConfigError for an option that does not apply.
    """
    if not isinstance(source, str | os.PathLike):
        raise DataError(
            f"load takes the name of a data set, or the path of a file or folder, "
            f"got {type(source).__name__}. "
            f"Images and labels that you hold go to glassnet.data.from_arrays."
        )
    if progress is not None and not callable(progress):
        raise ConfigError(f"progress must be a function of (done, all), got {progress!r}.")
    name = ALIASES.get(str(source), str(source))
    if name not in NAMES:
        path = place_of(source)
        reader = _reader(path)
        if like is not None and "resize" in _known(reader):
            size = "auto" if like.size is None else like.size
            options = {"size": size, "channels": like.channels, "resize": like.resize} | options
        if "progress" in _known(reader) and progress is not None:
            options["progress"] = progress
        return _call(reader, f"Data from {source}", options, path)
    if name == "digits":
        return _call(_digits, "The data set 'digits'", options)
    place = Path(cache) if cache is not None else user_cache()
    reader = _cifar10 if name == "cifar10" else partial(_idx_set, name)
    return _call(reader, f"The data set {name!r}", options, place)


def place_of(source: str | os.PathLike[str]) -> Path:
    """The path of a file or folder of the user's: as it is given, else in the user's folder of data sets."""
    path, folder = Path(source), user_folder()
    if path.exists() or folder is None or not (folder / path).exists():
        return path
    return folder / path


def _reader(path: Path) -> Callable[..., Dataset]:
    """What reads the file or folder, by its name and content."""
    if path.is_file() and is_manifest(path) and names_files(path):
        return _load_folder()
    if path.name.endswith((".csv", ".csv.gz")):
        return load_csv
    if path.name.endswith(".npz"):
        return load_npz
    if form_of(path) is not None:
        return load_cifar10
    if path.is_dir():
        if holds_idx(path):
            return load_idx
        return _load_folder()
    if path.exists():
        raise DataError(
            f"{path} is no data that can be read. Known are .csv, .csv.gz, .tsv and .npz files, and folders."
        )
    raise DataError(f"There is no data set, file or folder {str(path)!r}." + did_you_mean(str(path), NAMES))


def _load_folder() -> Callable[..., Dataset]:
    from glassnet.data.folder import load_folder  # brings Pillow

    return load_folder


def _call(reader: Callable[..., Dataset], what: str, options: Mapping[str, Any], *place: Path) -> Dataset:
    """The reader's Dataset, once it takes each of the options."""
    known = _known(reader)
    for option in options:
        if option not in known:
            takes = did_you_mean(option, known) if known else " It takes none."
            raise ConfigError(f"{what} takes no option {option!r}.{takes}")
    return reader(*place, **options)


def _known(reader: Callable[..., Dataset]) -> list[str]:
    """The options that a reader takes."""
    return [name for name, p in inspect.signature(reader).parameters.items() if p.kind is p.KEYWORD_ONLY]


def absolute(source: str) -> str:
    """The path of a file or folder from the root on, so that it is found from anywhere; a name as it is."""
    known = ALIASES.get(source, source) in NAMES
    return source if known or not os.path.exists(source) else os.path.abspath(source)


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
    paths = locate(name, known.sha256, known.mirrors, folder=user_folder(), cache=cache)
    preprocessing = Preprocessing((28, 28), (known.mean,), (known.std,), "L")

    def split(prefix: str, count: int) -> Split:
        images = read_idx(paths[f"{prefix}-images-idx3-ubyte.gz"], (count, 28, 28))[..., None]
        labels = read_idx(paths[f"{prefix}-labels-idx1-ubyte.gz"], (count,)).astype(np.int64)
        return Split(images, encode(labels, known.classes, f"{name} labels"), known.classes, preprocessing)

    return Dataset(name, train=split("train", 60_000), test=split("t10k", 10_000))


def _cifar10(cache: Path, *, lossy_test: bool = False) -> Dataset:
    """CIFAR-10 in any of its forms from the user's folder or the cache, else the official archive."""
    folder = user_folder()
    for place in (folder, cache):
        if place is not None and form_of(place / "cifar10") is not None:
            return load_cifar10(place / "cifar10", lossy_test=lossy_test)
    paths = locate("cifar10", {ARCHIVE: ARCHIVE_SHA256}, MIRRORS, folder=folder, cache=cache)
    return load_cifar10(paths[ARCHIVE], lossy_test=lossy_test)


def user_folder() -> Path | None:
    """The user's own folder of data sets."""
    folder = os.environ.get("GLASSNET_DATA")
    return Path(folder) if folder else None


def user_cache() -> Path:
    """The folder that downloads are kept in."""
    import pooch

    return Path(pooch.os_cache("glassnet"))
