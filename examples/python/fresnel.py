"""fresnel's C interface for Python: ctypes and NumPy, nothing to compile.

The shared library is the one that FRESNEL_LIBRARY names, else libfresnel_runtime wherever the system looks for libraries. Runs leave
Python's lock, so threads with a session each run at once.
"""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_size_t, c_uint32, c_uint8, c_void_p
from pathlib import Path
from typing import NamedTuple

import numpy as np

ABI_VERSION = 1
COMPUTE = {"auto": 0, "f32": 1, "half": 2, "int8": 3}
# The names of fresnel_status, by number.
STATUS = (
    "ok",
    "io",
    "not_a_fresnel_file",
    "unsupported_version",
    "truncated",
    "corrupt",
    "limit",
    "invalid",
    "image",
    "input",
    "unsupported",
    "device",
    "cancelled",
    "internal",
)


class FresnelError(Exception):
    """A failed call: its message, and `kind`, one of STATUS."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Prediction(NamedTuple):
    """A class with its probability; `name` is None where the file has no names."""

    class_index: int
    name: str | None
    probability: float


class _Options(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("threads", c_uint32), ("compute", c_uint32)]


class _Prediction(ctypes.Structure):
    _fields_ = [("class_index", c_size_t), ("probability", c_double)]


def _load():
    library = ctypes.CDLL(os.environ.get("FRESNEL_LIBRARY", "libfresnel_runtime.so"))
    library.fresnel_abi_version.restype = c_uint32
    found = library.fresnel_abi_version()
    if found != ABI_VERSION:
        raise ImportError(f"expected version {ABI_VERSION} of fresnel's C interface, found {found}")

    def check(status, _function, _arguments):
        if status != 0:
            raise FresnelError(STATUS[status], library.fresnel_last_error().decode())

    def declare(name, result, *arguments):
        function = getattr(library, "fresnel_" + name)
        function.argtypes = arguments
        if result == "status":
            function.restype = ctypes.c_int
            function.errcheck = check
        else:
            function.restype = result

    found_classes = (POINTER(_Prediction), c_size_t, POINTER(c_size_t))
    declare("last_error", c_char_p)
    declare("model_open", "status", c_char_p, POINTER(c_void_p))
    declare("model_from_memory", "status", c_char_p, c_size_t, POINTER(c_void_p))
    declare("model_free", None, c_void_p)
    for name in ("channels", "height", "width", "outputs", "classes"):
        declare("model_" + name, c_size_t, c_void_p)
    declare("model_class_name", c_char_p, c_void_p, c_size_t)
    declare("model_architecture", c_char_p, c_void_p)
    declare("model_preprocess_rgb8", "status", c_void_p, POINTER(c_uint8), c_size_t, c_uint32, c_uint32, POINTER(c_float), c_size_t)
    declare("session_new", "status", c_void_p, POINTER(_Options), POINTER(c_void_p))
    declare("session_free", None, c_void_p)
    declare("session_run", "status", c_void_p, POINTER(c_float), c_size_t, c_size_t, POINTER(c_float), c_size_t)
    declare("session_classify_rgb8", "status", c_void_p, POINTER(c_uint8), c_size_t, c_uint32, c_uint32, *found_classes)
    declare("session_classify_encoded", "status", c_void_p, c_char_p, c_size_t, *found_classes)
    declare("session_cancel", None, c_void_p)
    declare("session_reset", None, c_void_p)
    return library


_library = _load()


def _floats(array):
    return array.ctypes.data_as(POINTER(c_float))


def _frame(rgb):
    """An array of [height, width, 3] bytes without gaps, and what the library wants to know of it."""
    rgb = np.ascontiguousarray(rgb, dtype=np.uint8)
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected an array [height, width, 3], found {list(rgb.shape)}")
    height, width, _ = rgb.shape
    return rgb, (rgb.ctypes.data_as(POINTER(c_uint8)), rgb.size, width, height)


class Model:
    """A loaded model: from a path, or from the bytes of a file."""

    def __init__(self, source):
        self._handle = c_void_p()
        if isinstance(source, bytes):
            _library.fresnel_model_from_memory(source, len(source), byref(self._handle))
        else:
            _library.fresnel_model_open(os.fspath(source).encode(), byref(self._handle))
        of_model = lambda name: getattr(_library, "fresnel_model_" + name)(self._handle)
        self.architecture = of_model("architecture").decode()
        self.input_shape = (of_model("channels"), of_model("height"), of_model("width"))
        self.outputs = of_model("outputs")
        self.classes = of_model("classes")

    def __del__(self):
        _library.fresnel_model_free(self._handle)

    def class_name(self, index):
        """The class's name, None where the file has none."""
        name = _library.fresnel_model_class_name(self._handle, index)
        return None if name is None else name.decode()

    def preprocess(self, rgb):
        """One image of input, [channels, height, width] floats, from [height, width, 3] bytes of any size."""
        rgb, arguments = _frame(rgb)
        pixels = np.empty(self.input_shape, np.float32)
        _library.fresnel_model_preprocess_rgb8(self._handle, *arguments, _floats(pixels), pixels.size)
        return pixels


class Session:
    """What runs a model; one for each thread that is to run at once."""

    def __init__(self, model, threads=0, compute="auto"):
        self.model = model
        self._handle = c_void_p()
        options = _Options(ctypes.sizeof(_Options), threads, COMPUTE[compute])
        _library.fresnel_session_new(model._handle, byref(options), byref(self._handle))

    def __del__(self):
        _library.fresnel_session_free(self._handle)

    def run(self, pixels):
        """Logits [batch, outputs] of [batch, channels, height, width] prepared pixels."""
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        if pixels.shape[1:] != self.model.input_shape:
            raise ValueError(f"expected pixels [batch, *{self.model.input_shape}], found {list(pixels.shape)}")
        logits = np.empty((len(pixels), self.model.outputs), np.float32)
        _library.fresnel_session_run(
            self._handle, _floats(pixels), pixels.size, len(pixels), _floats(logits), logits.size
        )
        return logits

    def classify(self, picture, top=5):
        """The most probable classes of a picture: a path to a JPEG or PNG, its bytes, or an array [height, width, 3] of bytes."""
        found = (_Prediction * top)()
        count = c_size_t()
        if isinstance(picture, np.ndarray):
            rgb, arguments = _frame(picture)
            _library.fresnel_session_classify_rgb8(self._handle, *arguments, found, top, byref(count))
        else:
            encoded = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
            _library.fresnel_session_classify_encoded(self._handle, encoded, len(encoded), found, top, byref(count))
        return [
            Prediction(item.class_index, self.model.class_name(item.class_index), item.probability)
            for item in found[: count.value]
        ]

    def cancel(self):
        """Stops the run under way and all later ones, until reset(). From any thread."""
        _library.fresnel_session_cancel(self._handle)

    def reset(self):
        """Lets the session run again."""
        _library.fresnel_session_reset(self._handle)
