"""The contenders, in the order of the table."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial

from . import onnx_runtime_files, openvino_files, pytorch_files
from .arguments import Arguments
from .contender import Contender
from .files import ModelFolder
from .fresnel import Fresnel, Programs
from .peer import Peer, Run

#: The contender that all others' times are divided by.
BASELINE = "ONNX Runtime f32"

#: fresnel's rows on the best instruction set: bits and compute mode.
FRESNEL_ROWS = (
    ("32", "f32"),
    ("1.58", "int8"),
    ("2", "int8"),
    ("3", "int8"),
    ("4", "int8"),
    ("8", "int8"),
    ("2", "f32"),
    ("2", "half"),
)

#: The width whose int8 mode is run on forced instruction sets as well.
FORCED_BITS = "2"


def contenders(arguments: Arguments, models: ModelFolder, programs: Programs) -> list[Contender]:
    """Those that the arguments ask for; the baseline always."""
    run = Run(models, arguments.threads, arguments.repetitions)
    everyone = [*_onnx_runtime(run), *_openvino(run)]
    if arguments.torch:
        everyone += _pytorch(run)
    everyone += _fresnel(arguments, models, programs)
    if not arguments.only:
        return everyone
    patterns = (*arguments.only, BASELINE)
    return [one for one in everyone if any(fnmatchcase(one.name, pattern) for pattern in patterns)]


def _onnx_runtime(run: Run) -> list[Contender]:
    rows: list[Contender] = [
        Peer(BASELINE, run, onnx_runtime_files.float_file, "onnxruntime", exact=True),
        Peer("ONNX Runtime int8, dynamic", run, onnx_runtime_files.int8_file, "onnxruntime"),
    ]
    for bits in (4, 2):
        for level, compute in ((4, "int8"), (0, "f32")):
            make = partial(onnx_runtime_files.low_bit_file, bits=bits, accuracy_level=level)
            name = f"ONNX Runtime MatMulNBits {bits} bit, {compute}"
            rows.append(Peer(name, run, make, "onnxruntime", needs=("onnx_ir",)))
    return rows


def _openvino(run: Run) -> list[Contender]:
    single = partial(openvino_files.float_file, half=False)
    half = partial(openvino_files.float_file, half=True)
    rows: list[Contender] = [
        Peer("OpenVINO f32", run, single, "openvino", precision="f32", exact=True),
        Peer("OpenVINO bf16", run, half, "openvino", precision="bf16"),
        Peer("OpenVINO int8, NNCF", run, openvino_files.int8_file, "openvino", needs=("nncf",)),
    ]
    for bits in (4, 2):
        make = partial(openvino_files.low_bit_file, bits=bits)
        rows.append(Peer(f"OpenVINO int{bits} weights", run, make, "openvino", needs=("nncf",)))
    return rows


def _pytorch(run: Run) -> list[Contender]:
    rows: list[Contender] = []
    for precision, bfloat16 in (("f32", False), ("bf16", True)):
        make = partial(pytorch_files.weights_file, bfloat16=bfloat16)
        rows.append(Peer(f"PyTorch {precision}", run, make, "torch", exact=not bfloat16))
    return rows


def _fresnel(arguments: Arguments, models: ModelFolder, programs: Programs) -> list[Contender]:
    def row(bits: str, compute: str, isa: str | None = None) -> Fresnel:
        forced = f", FRESNEL_ISA={isa}" if isa is not None else ""
        return Fresnel(
            name=f"fresnel {bits} bit, {compute}{forced}",
            programs=programs,
            models=models,
            bits=bits,
            compute=compute,
            threads=arguments.threads,
            repetitions=arguments.repetitions,
            isa=isa,
            exact=(bits, compute) == ("32", "f32"),
        )

    rows = [row(bits, compute) for bits, compute in FRESNEL_ROWS]
    return [*rows, *(row(FORCED_BITS, "int8", isa) for isa in arguments.isas)]
