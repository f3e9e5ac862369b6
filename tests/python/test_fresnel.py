"""The Python binding of examples/python: arrays in and out, errors, and threads. Called by .ci/embedding."""

import sys
import threading
import time
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples/python"))

import fresnel  # noqa: E402  (found by the line above)

MODEL = ROOT / "runtime/examples/digits_2bit.fresnel"
SEVEN = ROOT / "quantizer/assets/digits/samples/9003_digit_7.png"


def stroke():
    """A one, drawn by hand."""
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[8:40, 30:34] = 255
    return frame


class Binding(unittest.TestCase):
    def setUp(self):
        self.model = fresnel.Model(MODEL)
        self.session = fresnel.Session(self.model, threads=1, compute="f32")

    def test_pictures_as_array_path_and_bytes(self):
        self.assertEqual(self.session.classify(stroke())[0].name, "1")
        from_path = self.session.classify(SEVEN, top=4)
        self.assertEqual((from_path[0].name, len(from_path)), ("7", 4))
        self.assertEqual(self.session.classify(SEVEN.read_bytes(), top=4), from_path)
        self.assertEqual(len(self.session.classify(SEVEN, top=99)), 10)

    def test_views_that_are_not_contiguous(self):
        mirrored = stroke()[:, ::-1]
        self.assertFalse(mirrored.flags.c_contiguous)
        self.assertEqual(self.session.classify(mirrored), self.session.classify(mirrored.copy()))

    def test_batches_equal_single_runs(self):
        self.assertEqual(self.model.input_shape, (1, 28, 28))
        frames = [stroke(), stroke()[::-1], np.zeros((5, 9, 3), np.uint8)]
        pixels = np.stack([self.model.preprocess(frame) for frame in frames])
        logits = self.session.run(pixels)
        self.assertEqual(logits.shape, (3, 10))
        alone = np.concatenate([self.session.run(image[None]) for image in pixels])
        self.assertTrue((logits == alone).all())
        self.assertEqual(logits[0].argmax(), 1)

    def test_errors_have_kinds(self):
        def kind(action):
            with self.assertRaises(fresnel.FresnelError) as caught:
                action()
            return caught.exception.kind

        self.assertEqual(kind(lambda: fresnel.Model("missing.fresnel")), "io")
        self.assertEqual(kind(lambda: fresnel.Model(b"x" * 99)), "not_a_fresnel_file")
        self.assertEqual(kind(lambda: fresnel.Model(MODEL.read_bytes()[:-1])), "truncated")
        self.assertEqual(kind(lambda: self.session.classify(b"text")), "image")
        self.assertEqual(kind(lambda: self.session.classify(np.zeros((0, 4, 3), np.uint8))), "input")
        self.assertEqual(kind(lambda: self.session.run(np.full((1, 1, 28, 28), np.nan))), "input")
        with self.assertRaises(ValueError):
            self.session.classify(np.zeros((4, 4), np.uint8))
        with self.assertRaises(ValueError):
            self.session.run(np.zeros((1, 3, 28, 28)))

    def test_another_thread_cancels(self):
        failures = []

        def work():
            try:
                while True:
                    self.session.classify(stroke())
            except fresnel.FresnelError as error:
                failures.append(error.kind)

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.05)
        self.session.cancel()
        worker.join()
        self.assertEqual(failures, ["cancelled"])
        self.session.reset()
        self.assertEqual(self.session.classify(stroke())[0].name, "1")

    def test_sessions_outlive_models(self):
        session = fresnel.Session(fresnel.Model(MODEL), compute="int8")
        self.assertEqual(session.classify(SEVEN)[0].name, "7")


if __name__ == "__main__":
    unittest.main()
