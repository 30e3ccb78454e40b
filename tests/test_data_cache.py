"""The cache of pixels: what is decoded once is not decoded again, and nothing old or damaged is used."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glassnet.data import cache as caching
from glassnet.data import decoding
from glassnet.data.cache import FACTS, PIXELS, key_of, make_room, pixels_of
from glassnet.data.decoding import decode_blocks, statistics
from glassnet.data.folder import load_folder
from glassnet.errors import DataError
from glassnet.preprocessing import Preprocessing
from messages import message_of
from photos import photo_folder, save_picture

WANTED = Preprocessing((16, 20), (0.0,) * 3, (1.0,) * 3, "RGB", "crop")
BYTES = 16 * 20 * 3


@pytest.fixture
def paths(tmp_path):
    photo_folder(tmp_path / "photos", {"a": 7, "b": 5})
    return sorted(map(str, (tmp_path / "photos").rglob("*.png")))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def names(cache):
    return sorted(folder.name for folder in cache.iterdir())


# Kept


def test_a_second_time_decodes_nothing(paths, cache, monkeypatch):
    first = pixels_of(paths, WANTED, cache)
    assert first.decoded == 12 and first.folder == cache / key_of(paths, WANTED)
    monkeypatch.setattr(decoding, "decode", None)  # not to be called
    second = pixels_of(paths, WANTED, cache)
    assert second.decoded == 0 and second.folder == first.folder
    assert np.array_equal(first.images, second.images) and first.images.shape == (12, 16, 20, 3)
    for mine, other in zip(first.facts, second.facts, strict=True):
        assert np.array_equal(mine, other) and mine.dtype == other.dtype


def test_another_process_decodes_nothing(paths, cache):
    program = (
        "import sys; from glassnet.data.folder import load_folder\n"
        "print(load_folder(sys.argv[1], cache=sys.argv[2]).report.decoded)"
    )
    root, environment = Path(paths[0]).parents[1], os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for decoded in ("12\n", "0\n"):
        command = [sys.executable, "-c", program, str(root), str(cache)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert result.stdout == decoded


def test_pixels_are_the_same_from_cache_and_memory(paths, cache):
    kept, held = pixels_of(paths, WANTED, cache), pixels_of(paths, WANTED, cache / "none", limit=0)
    assert held.folder is None and not (cache / "none").exists()
    assert np.array_equal(kept.images, held.images)
    assert not kept.images.flags.writeable


def test_a_split_of_the_cache_is_a_view(paths, cache):
    data = load_folder(Path(paths[0]).parents[1], cache=cache)
    assert not data.train.images.flags.owndata and data.train[2:5].images.base is not None


def test_a_cache_that_is_only_to_be_read_is_used(paths, cache, monkeypatch):
    whole = pixels_of(paths, WANTED, cache).images

    def refuse(path):
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    again = pixels_of(paths, WANTED, cache)
    assert again.decoded == 0 and np.array_equal(again.images, whole)


# Another key


def test_every_change_gives_another_key(paths):
    keys = {key_of(paths, WANTED), key_of(paths[:-1], WANTED), key_of(paths[::-1], WANTED)}
    for change in ({"size": (20, 16)}, {"resize": "stretch"}, {"channels": "L", "mean": (0,), "std": (1,)}):
        settings = {**WANTED.to_dict(), **change}
        keys.add(key_of(paths, Preprocessing.from_dict(settings)))
    os.utime(paths[0], ns=(1, 1))
    keys.add(key_of(paths, WANTED))
    with open(paths[0], "ab") as file:
        file.write(b"\0")
    os.utime(paths[0], ns=(1, 1))
    keys.add(key_of(paths, WANTED))
    os.unlink(paths[0])
    keys.add(key_of(paths, WANTED))
    assert len(keys) == 9


def test_mean_and_deviation_are_no_part_of_the_key(paths):
    other = Preprocessing(WANTED.size, (0.5,) * 3, (0.2,) * 3, "RGB", "crop")
    assert key_of(paths, other) == key_of(paths, WANTED)


def test_how_files_are_decoded_is_part_of_the_key(paths, monkeypatch):
    before = key_of(paths, WANTED)
    monkeypatch.setattr(caching, "DECODE_VERSION", -1)
    changed = key_of(paths, WANTED)
    monkeypatch.setattr("PIL.__version__", "0")
    assert len({before, changed, key_of(paths, WANTED)}) == 3


def test_a_changed_photo_is_decoded_anew(paths, cache):
    before = pixels_of(paths, WANTED, cache).images[0].copy()
    save_picture(Path(paths[0]), 500)
    assert not np.array_equal(pixels_of(paths, WANTED, cache).images[0], before)


# Damage


@pytest.mark.parametrize("file", [PIXELS, FACTS])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "longer"])
def test_a_damaged_entry_is_made_again(paths, cache, file, damage):
    whole = pixels_of(paths, WANTED, cache)
    images, path = whole.images.copy(), whole.folder / file
    if damage == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.unlink()  # and not written over, for it is mapped
        path.write_bytes({"cut": content[:-50], "empty": b"", "longer": content + b"\0"}[damage])
    again = pixels_of(paths, WANTED, cache)
    assert again.decoded == (0 if (file, damage) == (FACTS, "longer") else 12)
    assert np.array_equal(again.images, images)
    assert pixels_of(paths, WANTED, cache).decoded == 0


def test_unreadable_files_are_known_until_they_can_be_read(paths, cache):
    content = Path(paths[3]).read_bytes()
    times = os.stat(paths[3])
    Path(paths[3]).write_bytes(content[:60].ljust(len(content), b"\0"))
    os.utime(paths[3], ns=(times.st_atime_ns, times.st_mtime_ns))
    for decoded in (11, 0):
        found = pixels_of(paths, WANTED, cache)
        assert found.decoded == decoded and list(found.failures) == [3]
        assert found.rows.tolist() == [0, 1, 2, *range(4, 12)]
    Path(paths[3]).write_bytes(content)
    os.utime(paths[3], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert pixels_of(paths, WANTED, cache).decoded == 12


def test_nothing_that_can_be_read_is_no_error_here(tmp_path, cache):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    for _ in range(2):
        found = pixels_of([str(path)], WANTED, cache)
        assert found.images.shape == (0, 16, 20, 3) and found.failures == {0: "it is empty."}


def test_an_interrupted_run_leaves_nothing(paths, cache):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pixels_of(paths, WANTED, cache, progress=interrupt)
    assert names(cache) == []
    assert threading.active_count() == 1


# Limits


def test_sets_used_longest_ago_make_room(paths, cache):
    sets = [paths[:4], paths[4:8], paths[8:]]
    keys = [key_of(part, WANTED) for part in sets]
    for age, part in zip((300, 200), sets[:2], strict=True):
        folder = pixels_of(part, WANTED, cache).folder
        os.utime(folder, (time.time() - age,) * 2)
    pixels_of(sets[0], WANTED, cache)  # used again
    size = sum(file.stat().st_size for file in (cache / keys[0]).iterdir())
    pixels_of(sets[2], WANTED, cache, limit=size + 4 * BYTES)
    assert names(cache) == sorted([keys[0], keys[2]])


def test_what_exceeds_the_limit_stays_in_memory(paths, cache):
    assert pixels_of(paths, WANTED, cache, limit=12 * BYTES - 1).folder is None
    assert not cache.exists()
    assert pixels_of(paths, WANTED, cache, limit=12 * BYTES).folder is not None


def test_a_cache_that_cannot_be_written_is_done_without(paths, tmp_path):
    (tmp_path / "file").write_text("no folder")
    found = pixels_of(paths, WANTED, tmp_path / "file" / "cache")
    assert found.folder is None and found.decoded == 12


def test_a_full_disk_is_done_without(paths, cache, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    found = pixels_of(paths, WANTED, cache)
    assert found.folder is None and found.decoded == 12 and names(cache) == []


def test_what_was_left_unfinished_goes_after_a_day(cache):
    for name, age in ((".part-old", 90_000), (".part-new", 10)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    make_room(cache, 1 << 40)
    assert names(cache) == [".part-new"]


def test_more_than_memory_holds_is_refused(paths, cache):
    huge = Preprocessing((10**7, 10**7), (0.0,) * 3, (1.0,) * 3, "RGB", "crop")
    assert message_of(DataError, pixels_of, paths, huge, cache) == (
        "12 images of 10000000 x 10000000 take 3600000.0 GB, more than there is memory and than the cache "
        "may keep. Raise cache_limit, or choose a smaller size."
    )


def test_two_runs_at_once_end_with_one_entry(paths, cache):
    found = []

    def run():
        found.append(pixels_of(paths, WANTED, cache))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(cache) == [key_of(paths, WANTED)]
    assert all(np.array_equal(pixels.images, found[0].images) for pixels in found)


# Many files


def test_blocks_hold_all_files_in_order(paths):
    many = (paths * 50)[:530]
    blocks = list(decode_blocks(many, WANTED))
    assert [len(block.rows) for block in blocks] == [256, 256, 18]
    assert [row for block in blocks for row in block.rows] == list(range(530))
    images = np.concatenate([block.images for block in blocks])
    assert np.array_equal(images[:12], images[516:528])


def test_statistics_of_sums_do_not_cancel():
    """Means near 255 and deviations near 0, of more values than float32 or float64 squares would bear."""
    n = 10**9
    sums = np.array([[255 * n - 3]])
    squares = np.array([[255**2 * (n - 3) + 3 * 254**2]])
    mean, std = statistics(decoding.Facts(*(None,) * 3, sums, squares), n)
    assert mean[0] == pytest.approx((255 - 3e-9) / 255, rel=1e-15)
    assert std[0] == pytest.approx((3e-9) ** 0.5 / 255, rel=1e-6)


def test_a_difference_hash_is_of_neighbours_and_not_of_brightness():
    ramp = np.tile(np.arange(9, dtype=np.uint8) * 10, (8, 1))
    assert decoding.difference_hash(Image.fromarray(ramp)) == 2**64 - 1
    assert decoding.difference_hash(Image.fromarray(ramp + 100)) == 2**64 - 1
    assert decoding.difference_hash(Image.fromarray(ramp[:, ::-1].copy())) == 0
    ramp[0, 1] = 0  # the first pair is even: one bit less
    assert np.bitwise_count(decoding.difference_hash(Image.fromarray(ramp))) == 63
