"""report.html: what is in it, that it needs nothing else, and that no name can become markup."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glassnet as gn
from glassnet.data import from_arrays
from glassnet.data.folder import load_folder
from glassnet.errors import FileFormatError
from glassnet.evaluation.judging import judge
from glassnet.evaluation.learning_curve import LearningCurve, Point
from glassnet.runs import html
from glassnet.runs.records import read_run
from glassnet.runs.report import write_report
from messages import message_of
from test_cli import run, run_json

NAMES = ("<script>alert(1)</script>", "$x_{$", "'\"&amp;")


class Page(HTMLParser):
    """Elements, what they refer to, and the text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.sources, self.styles, self.text, self.open = [], [], [], "", []
        self.feed(Path(path).read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for key, value in attributes if key in ("src", "href", "srcset", "data")]
        self.styles += [value for key, value in attributes if key == "style"]
        assert not [key for key, _ in attributes if key.startswith("on")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if data.isspace() else data + "\n"

    def pictures(self):
        pictures = [Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))) for s in self.sources]
        for picture in pictures:
            picture.load()
        return pictures


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run, net, data) of a quick run on three classes with evil names, in runs/evil."""
    folder = tmp_path_factory.mktemp("report") / "runs" / "<b>evil"
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 3, 400)
    images = generator.integers(0, 100, (400, 9, 9, 3), np.uint8)
    images[np.arange(400), :, 3 * labels] += 20
    parts = {"test": (images[300:], labels[300:]), "val": (images[200:300], labels[200:300])}
    data = from_arrays(images[:200], labels[:200], classes=NAMES, name="<i>data", **parts)
    net = gn.Sequential([gn.Flatten(), gn.Linear(3)], input_shape=(9, 9, 3))
    done = gn.fit(net, data, epochs=2, optimizer=gn.SGD(lr=0.002), backend="reference", run_dir=folder)
    return done, net, data


@pytest.fixture
def page(trained, tmp_path):
    done, net, data = trained
    sick = replace(done, warnings=("relu_1 is dead: <8> channels",))
    write_report(sick, net, data, tmp_path / "report.html")
    return Page(tmp_path / "report.html")


def test_the_page_is_whole_and_needs_nothing_else(page):
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not any("url(" in style for style in page.styles) and "url(" not in html.STYLE
    assert len(page.pictures()) == 2 + 24  # reliability, curves and the worst errors


def test_names_cannot_become_markup(page):
    for name in (*NAMES, "<i>data", "<b>evil", "relu_1 is dead: <8> channels"):
        assert name in page.text
    assert "b" not in page.tags and "i" not in page.tags


def test_figures_of_the_page(page, trained):
    done, net, data = trained
    judged = judge(net, data, np.random.default_rng(0))
    low, high = judged.accuracy
    assert f"Accuracy {done.test.accuracy:.2%} ({low:.1%} to {high:.1%}) on 100 test images." in page.text
    assert "200 training, 100 validation, 100 test images of 3 classes. 2 epochs in" in page.text
    for row in judged.evaluation.per_class:
        assert f"{row.recall:.1%} (" in page.text
    sure = judged.sureness
    assert f"Expected calibration error {sure.plain.error:.2%}" in page.text
    assert f"temperature {sure.temperature:.3f}, fitted on the validation images" in page.text
    worst = judged.mistakes[0]
    assert f"taken for {worst.predicted} ({worst.probability:.1%})\nimage {worst.index}\n" in page.text
    assert "batch_size = 32" in page.text and "linear_1" in page.text


def test_the_worst_errors_are_the_images_themselves(page, trained):
    _, net, data = trained
    worst = judge(net, data, np.random.default_rng(0)).mistakes[0]
    shots = [picture for picture in page.pictures() if picture.size == (9, 9)]
    np.testing.assert_array_equal(np.asarray(shots[0]), data.test.images[worst.index])


def test_file_names_stand_under_the_pictures(trained, tmp_path):
    done, net, data = trained
    names = tuple(f"<photos>/' onerror='{n}.jpg" for n in range(100))
    named = replace(data, test=replace(data.test, files=names))
    judged = write_report(done, net, named, tmp_path / "named.html")
    text = Page(tmp_path / "named.html").text
    assert all(f"<photos>/' onerror='{m.index}.jpg" in text for m in judged.mistakes)


def test_what_a_folder_of_photos_left_out_is_listed(tmp_path, generator):
    for name in ("cat", "<u>dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = generator.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "photos" / "cat" / "<s>broken.png").write_bytes(b"no image")
    data = load_folder(tmp_path / "photos", cache_limit=0).holdout(0.5, 0)
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=data.image_shape)
    done = gn.fit(net, data, epochs=1, batch_size=4, backend="reference")
    judged = write_report(done, net, data, tmp_path / "photos.html")
    page = Page(tmp_path / "photos.html")
    assert "<s>broken.png" in page.text and not {"s", "u"} & set(page.tags)
    assert all(warning in page.text for warning in data.report.warnings)
    from_root = [Path(m.file).relative_to(tmp_path / "photos") for m in judged.mistakes]
    assert from_root and all(str(name) in page.text for name in from_root)
    assert all(m.file not in page.text for m in judged.mistakes)


def test_a_run_folder_gives_the_same_page(trained, tmp_path):
    done, net, data = trained
    write_report(done, net, data, tmp_path / "one.html")
    write_report(read_run(done.folder), net, data, tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_folder_without_an_end_is_refused(trained, tmp_path):
    assert message_of(FileFormatError, read_run, tmp_path) == (
        f"The run folder {tmp_path} has no evaluation.json: its run never came to an end."
    )
    (tmp_path / "evaluation.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text("")
    assert message_of(FileFormatError, read_run, tmp_path) == (
        f"The run folder {tmp_path} cannot be read: KeyError('best_epoch')."
    )


def test_many_classes_have_a_picture_of_their_confusion(tmp_path, generator):
    labels = np.arange(80) % 40
    images = generator.integers(0, 256, (80, 4, 4), np.uint8)
    data = from_arrays(images, labels, test=(images, labels))
    net = gn.Sequential([gn.Flatten(), gn.Linear(40)], input_shape=(4, 4, 1))
    done = gn.fit(net, data, epochs=1, val_fraction=0, backend="reference")
    write_report(done, net, data, tmp_path / "many.html")
    page = Page(tmp_path / "many.html")
    assert " taken for " in page.text and "temperature" not in page.text
    assert len(page.pictures()) == 3 + 24


def test_nothing_held_out_is_said(tmp_path, generator):
    data = from_arrays(generator.integers(0, 256, (20, 4, 4), np.uint8), np.arange(20) % 2)
    net = gn.Sequential([gn.Flatten(), gn.Linear(2)], input_shape=(4, 4, 1))
    done = gn.fit(net, data, epochs=1, val_fraction=0, batch_size=8, backend="reference")
    assert write_report(done, net, data, tmp_path / "bare.html") is None
    assert "No images were held out" in Page(tmp_path / "bare.html").text


def test_a_learning_curve_in_the_folder_is_shown(trained, tmp_path):
    done, net, data = trained
    learned = LearningCurve((Point(50, 60, 100), Point(100, 40, 100), Point(200, 27, 100)))
    learned.save(done.folder)
    try:
        write_report(done, net, data, tmp_path / "curve.html")
    finally:
        (done.folder / "learning_curve.json").unlink()
    assert learned.verdict() in Page(tmp_path / "curve.html").text


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = gn.data.load("digits")
    net = gn.Sequential([gn.Flatten(), gn.Linear(10)], input_shape=(8, 8, 1))
    done = gn.fit(net, data, epochs=1, run_dir="runs/one")
    facts = json.loads(Path("runs/one/evaluation.json").read_text())
    Path("runs/one/evaluation.json").write_text(json.dumps(facts | {"warnings": ["The sky fell."]}))
    result, err = run_json(capsys, "report", "runs/one")
    assert result["accuracy"] == done.test.accuracy and result["split"] == "test"
    assert result["accuracy_interval"][0] < done.test.accuracy < result["accuracy_interval"][1]
    assert "The report is runs/one/report.html." in err
    assert "The sky fell." in Page("runs/one/report.html").text
    assert "143 validation" in Page("runs/one/report.html").text  # as it was held out in training
    status, _, err = run(capsys, "report", "nowhere")
    assert (status, err[:6]) == (2, "Error:")
