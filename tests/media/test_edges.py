"""Edges of pictures and clips."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from filmstrip import canny_edges, load_video
from filmstrip.media import export_to_video


def square() -> Image.Image:
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[8:16, 8:20] = 255
    return Image.fromarray(picture)


def test_the_edges_of_a_square_are_its_outline():
    pytest.importorskip("cv2")
    (edges,) = canny_edges(square())
    assert (edges.mode, edges.size) == ("RGB", (32, 24))
    pixels = np.asarray(edges)
    assert set(np.unique(pixels)) == {0, 255}
    assert (pixels == pixels[..., :1]).all()
    rows, columns = np.nonzero(pixels[..., 0])
    assert {rows.min(), rows.max()} <= {7, 8, 15, 16} and {columns.min(), columns.max()} <= {7, 8, 19, 20}
    assert not pixels[10:14, 11:17].any()


def test_thresholds_decide_what_is_an_edge():
    pytest.importorskip("cv2")
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 32).astype(np.uint8), (8, 1)))
    counts = [np.count_nonzero(canny_edges(ramp, *bounds)[0]) for bounds in ((10, 20), (100, 200))]
    assert counts[0] > 0 == counts[1]


def test_the_edges_of_a_clip_are_read_with_it(tmp_path):
    pytest.importorskip("cv2")
    export_to_video([square()] * 5, tmp_path / "clip.mkv", fps=4)
    edges = load_video(tmp_path / "clip.mkv", canny_edges, num_frames=3)
    assert len(edges) == 3
    np.testing.assert_array_equal(np.asarray(edges[0]), np.asarray(canny_edges(square())[0]))


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValueError, match="got 200 and 100"):
        canny_edges(square(), 200, 100)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'filmstrip\[edges\]'"):
        canny_edges(square())


def test_the_thresholds_reach_opencv(monkeypatch):
    calls = []

    def canny(frame, low, high):
        calls.append((frame.shape, low, high))
        return frame[..., 0]

    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(Canny=canny))
    canny_edges([square(), square()], 50, 150)
    assert calls == [((24, 32, 3), 50, 150)] * 2
