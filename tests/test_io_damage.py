"""Files that are truncated, altered, incomplete or of another kind are refused, with the reason."""

from __future__ import annotations

import json
import resource

import pytest
from safetensors.numpy import load_file

import glassnet as gn
from glassnet.errors import FileFormatError
from glassnet.io.tensors import digest, pack, read
from messages import message_of
from model_files import assert_same, experienced


@pytest.fixture
def net(generator):
    return experienced(generator)


@pytest.fixture
def path(net, tmp_path):
    path = tmp_path / "net.gnet"
    net.save(path)
    return path


def rewritten(path, **changes):
    """The file with other values in its document (None removes one), under a right checksum."""
    tensors, document = read(path)
    document |= changes
    path.write_bytes(pack(tensors, {key: value for key, value in document.items() if value != "removed"}))
    return path


def test_a_truncated_file_is_refused(path):
    data = path.read_bytes()
    for length in {*range(0, len(data), 37), *range(16), *range(len(data) - 16, len(data))}:
        path.write_bytes(data[:length])
        assert str(path) in message_of(FileFormatError, gn.load, path)
    path.write_bytes(data + b"\0")
    end = len(data) - 8 - int.from_bytes(data[:8], "little")
    assert message_of(FileFormatError, gn.load, path) == (
        f"{path} is truncated or altered: its header describes {end} bytes of tensors, found {end + 1}."
    )
    path.write_bytes(data[:100])
    assert message_of(FileFormatError, gn.load, path) == (
        f"{path} is truncated or altered: its header ends at byte {len(data) - end}, the file at 100."
    )


def test_a_flipped_bit_is_refused_or_changes_nothing(net, path, generator):
    """All bits of the first bytes, one bit of every third byte after; a blank in the header may stay one."""
    data = bytearray(path.read_bytes())
    places = [(i, 1 << bit) for i in range(12) for bit in range(8)]
    places += [(i, 1 << int(generator.integers(8))) for i in range(12, len(data), 3)]
    refused = 0
    for i, mask in places:
        data[i] ^= mask
        path.write_bytes(data)
        data[i] ^= mask
        try:
            loaded = gn.load(path)
        except FileFormatError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert_same(loaded, net)
    assert refused > 0.99 * len(places)


def test_an_altered_weight_is_named_by_both_checksums(net, path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    document = read_document(data)
    tensors = {name: array.copy() for name, array in load_file(path).items()}
    assert message_of(FileFormatError, gn.load, path) == (
        f"{path} was altered: expected SHA-256 {document['sha256']}, "
        f"found {digest(tensors, document['document'])}."
    )


def read_document(data):
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["glassnet"])


@pytest.mark.parametrize(
    "field", ["layers", "input_shape", "seed", "classes", "preprocessing", "loss", "learning", "dropout_keys"]
)
def test_a_file_that_lacks_something_is_refused(path, field):
    message = message_of(FileFormatError, gn.load, rewritten(path, **{field: "removed"}))
    assert message == f"{path} is incomplete: it lacks {field}."


def test_another_format_is_refused(path):
    assert message_of(FileFormatError, gn.load, rewritten(path, format=2, glassnet="9.0")) == (
        f"{path} has format 2, written by glassnet 9.0; this glassnet reads format 1. "
        "A newer one reads newer files: pip install --upgrade glassnet."
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers": []}, "ConfigError: A chain of layers needs at least one layer, got none."),
        ({"layers": [{"type": "ReLU"}]}, "KeyError: 'settings'"),
        (
            {"layers": [{"type": "ReLU", "settings": {"slope": 1}}]},
            "ConfigError: ReLU has no setting slope",
        ),
        ({"loss": {"name": "hinge", "settings": {}}}, "ConfigError: Unknown loss 'hinge'."),
        ({"preprocessing": {"mean": [0]}}, "ConfigError: Preprocessing lacks std and channels."),
        ({"learning": {"nobody": [True, 1.0]}}, "ConfigError: There is no layer 'nobody'."),
        ({"input_shape": 5}, "TypeError: 'int' object is not iterable"),
    ],
)
def test_a_description_that_makes_no_network_is_refused(path, changes, reason):
    message = message_of(FileFormatError, gn.load, rewritten(path, **changes))
    assert message.startswith(f"{path} describes no network that can be built: {reason}")


HUGE = {"type": "Linear", "settings": {"features": 10**9}}
FLAT = {"type": "Flatten", "settings": {}}


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [FLAT, HUGE]},
        {"layers": [FLAT, {"type": "Linear", "settings": {"features": 10**8, "init": "zeros"}}]},
        {"layers": [FLAT, {"type": "Linear", "settings": {"features": 10**8, "init": "he_uniform"}}]},
        {"layers": [{"type": "Conv2d", "settings": {"filters": 10**9, "kernel_size": 3}}]},
        {"layers": [{"type": "BatchNorm2d", "settings": {}}], "input_shape": [1, 1, 10**9]},
        {"layers": [{"type": "LayerNorm", "settings": {"axes": 3}}], "input_shape": [10**4, 10**4, 3]},
        {"layers": [FLAT, HUGE], "input_shape": [10**9, 10**9, 10**9]},
    ],
)
def test_a_description_of_more_than_the_file_holds_takes_no_memory(path, changes):
    rewritten(path, **changes, learning={}, dropout_keys={})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = message_of(FileFormatError, gn.load, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kilobytes
    assert message.startswith(f"{path} describes no network that can be built: ")


def test_tensors_that_do_not_fit_the_layers_are_refused(path):
    layers = read(path)[1]["layers"]
    layers["head"]["settings"]["features"] = 4
    assert message_of(FileFormatError, gn.load, rewritten(path, layers=layers)) == (
        f"{path} has head.weight of shape (60, 3), needed (60, 4)."
    )


def with_header(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return message_of(FileFormatError, gn.load, path).removeprefix(f"{path} ")


def test_headers_are_believed_only_within_bounds(tmp_path):
    path = tmp_path / "foreign.gnet"

    def tensor(**changes):
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
        return with_header(path, {"__metadata__": {}, "w": entry}, bytes(8))

    unreadable = "is no glassnet model: its header cannot be read "
    assert tensor() == "is a safetensors file, but no glassnet model: its metadata has no 'glassnet'."
    assert tensor(dtype="F16") == f"{unreadable}(dtype must be F32, got F16)."
    assert tensor(shape=[1 << 62, 1 << 62]).startswith(f"{unreadable}(a tensor [4611686018427387904, ")
    assert tensor(shape=[-2]) == f"{unreadable}(a shape is up to 8 numbers from 1 on, got [-2])."
    assert tensor(shape=[0]) == f"{unreadable}(a shape is up to 8 numbers from 1 on, got [0])."
    assert tensor(data_offsets=[-8, 0]) == f"{unreadable}(a tensor [2] cannot take bytes -8 to 0)."
    assert tensor(data_offsets=[4, 12]) == "was altered: w must begin at byte 0, found 4."
    assert with_header(path, b"[" * 100_000).startswith(unreadable)
    assert with_header(path, b'{"__metadata__": 5}').startswith(unreadable)
    assert with_header(path, {"__metadata__": {"glassnet": "{}"}}) == (
        "was altered: its description cannot be read ('sha256')."
    )
    entry = '{"sha256": "", "document": {"seed": NaN}}'
    assert with_header(path, {"__metadata__": {"glassnet": entry}}) == (
        "was altered: its description cannot be read (Out of range float values are not JSON compliant)."
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert message_of(FileFormatError, gn.load, path) == (
        f"{path} is no glassnet model: it must begin with a header's length of at most 4194304 in 8 bytes, "
        "found 727905341920923785 in 8."
    )
