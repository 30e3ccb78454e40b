"""How fast photos are decoded: on one thread per image size, and all of a folder, first and from the cache.

python benchmarks/decoding.py FOLDER
"""

from __future__ import annotations

import io
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from glassnet.data.decode import decode
from glassnet.data.folder import load_folder
from glassnet.preprocessing import Preprocessing

SIZES = {"224 x 224": (224, 224), "12 megapixels": (3000, 4000)}
WANTED = Preprocessing((224, 224), (0.0,) * 3, (1.0,) * 3, "RGB", "crop")
SECONDS = 2.0


def jpeg(height: int, width: int) -> bytes:
    """A noisy smooth picture, as hard to decode as a photo."""
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = (smooth + generator.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def rate(content: bytes) -> float:
    """Images a second of one thread's own time."""
    count, start = 0, time.thread_time()
    while time.thread_time() - start < SECONDS:
        decode(content, WANTED)
        count += 1
    return count / (time.thread_time() - start)


def main() -> None:
    for name, size in SIZES.items():
        content = jpeg(*size)
        print(f"{name}: {rate(content):,.0f} images/s a thread, of {len(content) / 1e6:.2f} MB each")
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as cache:
            for when in ("first", "again"):
                start = time.perf_counter()
                data = load_folder(sys.argv[1], size=(224, 224), cache=cache)
                count, seconds = len(data.train), time.perf_counter() - start
                decoded = data.report.decoded if data.report else 0
                print(f"{when}: {count} images in {seconds:.2f} s, {decoded} of them decoded")


if __name__ == "__main__":
    main()
