"""A second reader of `.fresnel` files, written from runtime/FORMAT.md alone.

    python3 tests/format_reader.py check MODEL [--inspect INSPECT.json] [--export EXPORT.safetensors]
    python3 tests/format_reader.py vector runtime/FORMAT.md

`check` enforces the rules of the format on MODEL, and compares what it reads with what the program says of
the same file: the JSON of `fresnel inspect --codes --json`, and what `fresnel export --codes` wrote. `vector`
puts the test vector of the specification together from its hexadecimal digits and reads it. Needs NumPy and
nothing else.
"""

import argparse
import json
import math
import re
import struct
import sys
import zlib

import numpy as np

MAGIC = b"\x89FRSL\r\n\x1a"
LEVELS = {"ternary": 3, "two": 4, "three": 8, "four": 16, "eight": 256}
BITS = {"ternary": 1.58, "two": 2, "three": 3, "four": 4, "eight": 8}
WIDTHS = list(LEVELS)


class BadFile(Exception):
    """The file breaks a rule of the format."""


def demand(condition, message):
    """Refuse the file unless the condition holds."""
    if not condition:
        raise BadFile(message)


class Postcard:
    """Decodes the manifest's encoding."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        """The next bytes."""
        demand(self.at + count <= len(self.data), f"the manifest ends within a value at byte {self.at}")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def varint(self, bits):
        """An unsigned number in its shortest form."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                demand(byte > 0 or shift == 0, "a varint that is not in its shortest form")
                demand(value < 1 << bits, f"a varint that does not fit {bits} bits")
                return value
            shift += 7
            demand(shift < bits, f"a varint that does not fit {bits} bits")

    def u32(self):
        """A u32."""
        return self.varint(32)

    def u64(self):
        """A u64."""
        return self.varint(64)

    def boolean(self):
        """A bool."""
        byte = self.take(1)[0]
        demand(byte < 2, f"a bool of {byte}")
        return byte == 1

    def f32(self):
        """A binary32."""
        return struct.unpack("<f", self.take(4))[0]

    def f64(self):
        """A binary64."""
        return struct.unpack("<d", self.take(8))[0]

    def string(self):
        """UTF-8 behind its length."""
        return self.take(self.u32()).decode("utf-8")

    def list(self, element):
        """Elements behind their number."""
        return [element() for _ in range(self.u32())]

    def variant(self, names):
        """The name of an enum's variant."""
        number = self.u32()
        demand(number < len(names), f"variant {number} of {len(names)}")
        return names[number]


def read_header(data):
    """Check and read the first 64 bytes."""
    demand(len(data) >= 64, "shorter than a header")
    demand(data[:8] == MAGIC, "not a .fresnel file")
    demand(zlib.crc32(data[:60]) == struct.unpack_from("<I", data, 60)[0], "the header's checksum")
    names = "major minor header_len flags manifest_len manifest_crc reserved"
    names += " data_offset data_len file_len reserved_2"
    header = dict(zip(names.split(), struct.unpack_from("<HHIIIIIQQQI", data, 8), strict=True))
    demand(header["major"] == 1, "major version")
    demand(header["flags"] == 0, "unknown flags")
    demand(header["header_len"] == 64, "header_len")
    demand(header["reserved"] == 0 and header["reserved_2"] == 0, "reserved bytes of the header")
    demand(1 <= header["manifest_len"] <= 1 << 20, "manifest_len")
    demand(header["data_offset"] == -(-(64 + header["manifest_len"]) // 64) * 64, "data_offset")
    demand(header["file_len"] == header["data_offset"] + header["data_len"], "file_len")
    demand(header["file_len"] == len(data), "the file's real length")
    return header


def read_config(value):
    """Read `VitConfig`."""
    config = {"architecture": value.string()}
    for name in ("image_size", "patch_size"):
        config[name] = [value.u32(), value.u32()]
    for name in ("in_channels", "embed_dim", "depth", "num_heads", "mlp_hidden"):
        config[name] = value.u32()
    for name in ("qkv_bias", "proj_bias", "qk_norm", "class_token", "distillation_token"):
        config[name] = value.boolean()
    config["register_tokens"] = value.u32()
    for name in ("position_embedding", "no_embed_class", "pre_norm", "layer_scale", "final_norm", "fc_norm"):
        config[name] = value.boolean()
    config["pooling"] = value.variant(["Token", "Average", "Max", "AverageMax"])
    config["pool_include_prefix"] = value.boolean()
    config["activation"] = value.variant(["GeluErf", "GeluTanh", "QuickGelu"])
    config["norm_epsilon"] = value.f32()
    config["num_classes"] = value.u32()
    return config


def read_preprocessing(value):
    """Read `Preprocessing`."""
    return {
        "input_size": [value.u32(), value.u32()],
        "crop_pct": value.f32(),
        "crop_mode": value.variant(["Center", "Squash", "Border"]),
        "interpolation": value.variant(["Nearest", "Bilinear", "Bicubic", "Lanczos"]),
        "mean": [value.f32() for _ in range(3)],
        "std": [value.f32() for _ in range(3)],
    }


def read_entry(value):
    """Read one `TensorEntry`."""
    entry = {"name": value.string(), "shape": value.list(value.u32)}
    encoding = value.variant(["f32", "f16", "codes"])
    entry["encoding"] = value.variant(WIDTHS) if encoding == "codes" else encoding
    entry["offset"], entry["length"], entry["crc32"] = value.u64(), value.u64(), value.u32()
    return entry


def read_manifest(data, header):
    """Check and read the manifest."""
    raw = data[64 : 64 + header["manifest_len"]]
    demand(zlib.crc32(raw) == header["manifest_crc"], "the manifest's checksum")
    demand(not any(data[64 + len(raw) : header["data_offset"]]), "bytes behind the manifest")
    value = Postcard(raw)

    def text_pair():
        return value.string(), value.string()

    manifest = {
        "config": read_config(value),
        "preprocessing": read_preprocessing(value),
        "tensors": value.list(lambda: read_entry(value)),
        "class_names": value.list(value.string),
        "recipe": value.list(text_pair),
        "provenance": value.list(text_pair),
        "measured": value.list(lambda: (value.string(), value.f64())),
        "metadata": value.list(text_pair),
    }
    if header["minor"] == 0:
        demand(value.at == len(raw), "bytes behind the manifest's last field")
    return manifest


def demanded_tensors(config):
    """Names and shapes in the order of the specification's table, and whether each may be codes."""
    c, dim, hidden = config, config["embed_dim"], config["mlp_hidden"]
    (height, width), (patch_height, patch_width) = c["image_size"], c["patch_size"]
    prefix = c["class_token"] + c["distillation_token"] + c["register_tokens"]
    tokens = (height // patch_height) * (width // patch_width) + (0 if c["no_embed_class"] else prefix)

    def both(name):
        return [(f"{name}.weight", [dim], False), (f"{name}.bias", [dim], False)]

    def linear(name, rows, columns, bias):
        return [(f"{name}.weight", [rows, columns], True)] + [(f"{name}.bias", [rows], False)] * bias

    tensors = []
    tensors += [("cls_token", [1, 1, dim], False)] * c["class_token"]
    tensors += [("dist_token", [1, 1, dim], False)] * c["distillation_token"]
    if c["register_tokens"]:
        tensors.append(("reg_token", [1, c["register_tokens"], dim], False))
    tensors += [("pos_embed", [1, tokens, dim], False)] * c["position_embedding"]
    tensors.append(("patch_embed.proj.weight", [dim, c["in_channels"], patch_height, patch_width], True))
    tensors += both("norm_pre") if c["pre_norm"] else [("patch_embed.proj.bias", [dim], False)]
    for i in range(c["depth"]):
        block = f"blocks.{i}"
        tensors += both(f"{block}.norm1")
        tensors += linear(f"{block}.attn.qkv", 3 * dim, dim, c["qkv_bias"])
        if c["qk_norm"]:
            for name in ("q_norm", "k_norm"):
                for part in ("weight", "bias"):
                    tensors.append((f"{block}.attn.{name}.{part}", [dim // c["num_heads"]], False))
        tensors += linear(f"{block}.attn.proj", dim, dim, c["proj_bias"])
        tensors += [(f"{block}.ls1.gamma", [dim], False)] * c["layer_scale"]
        tensors += both(f"{block}.norm2")
        tensors += linear(f"{block}.mlp.fc1", hidden, dim, c["proj_bias"])
        tensors += linear(f"{block}.mlp.fc2", dim, hidden, c["proj_bias"])
        tensors += [(f"{block}.ls2.gamma", [dim], False)] * c["layer_scale"]
    if c["final_norm"]:
        tensors += both("fc_norm" if c["fc_norm"] else "norm")
    if c["num_classes"]:
        features = dim
        tensors += linear("head", c["num_classes"], features, True)
        if c["distillation_token"]:
            tensors += linear("head_dist", c["num_classes"], features, True)
    return tensors


def row_bytes(width, columns):
    """Bytes of a row of codes."""
    per_byte = {"ternary": 5, "two": 4, "four": 2, "eight": 1}
    return -(-3 * columns // 8) if width == "three" else -(-columns // per_byte[width])


def unpack(width, rows, columns, data):
    """Codes `[rows, columns]`, each row starting at a whole byte; what is unused must be zero."""
    packed = np.frombuffer(data, np.uint8).reshape(rows, row_bytes(width, columns))
    if width == "ternary":
        digits, rest = [], packed.astype(np.uint16)
        for _ in range(5):
            rest = (rest & 0xFF) * 3
            digits.append((rest >> 8).astype(np.uint8))
        places = np.array([81, 27, 9, 3, 1], np.int64)
        digits = np.stack(digits, axis=-1)
        values = digits.astype(np.int64) @ places
        demand(np.array_equal(-(-256 * values // 243), packed), "a ternary byte that stands for nothing")
        codes = digits.reshape(rows, -1)
    else:
        bits = {"two": 2, "three": 3, "four": 4, "eight": 8}[width]
        stream = np.unpackbits(packed, axis=1, bitorder="little")
        whole = stream.shape[1] // bits * bits
        demand(not stream[:, columns * bits :].any(), "bits behind the codes of a row")
        groups = stream[:, :whole].reshape(rows, -1, bits)
        codes = (groups << np.arange(bits, dtype=np.uint8)).sum(axis=-1).astype(np.uint8)
    demand(not codes[:, columns:].any(), "codes behind the last of a row")
    return codes[:, :columns]


def read_tensor(entry, data):
    """Floats in the tensor's shape, or codes in it."""
    demand(zlib.crc32(data) == entry["crc32"], f"the checksum of {entry['name']}")
    shape, encoding = entry["shape"], entry["encoding"]
    demand(1 <= len(shape) <= 4 and all(shape), f"the shape of {entry['name']}")
    rows, columns = shape[0], math.prod(shape[1:])
    if encoding in LEVELS:
        demand(len(data) == rows * row_bytes(encoding, columns), f"the length of {entry['name']}")
        return unpack(encoding, rows, columns, data).reshape(shape)
    kind = {"f32": "<f4", "f16": "<f2"}[encoding]
    demand(len(data) == math.prod(shape) * np.dtype(kind).itemsize, f"the length of {entry['name']}")
    values = np.frombuffer(data, kind).astype(np.float32).reshape(shape)
    demand(np.isfinite(values).all(), f"{entry['name']} is not finite")
    return values


class Model:
    """A file that has passed every check."""

    def __init__(self, data):
        self.header = read_header(data)
        self.manifest = read_manifest(data, self.header)
        self.entries = {entry["name"]: entry for entry in self.manifest["tensors"]}
        self.tensors = {}
        end = start = self.header["data_offset"]
        for entry in self.manifest["tensors"]:
            at = start + entry["offset"]
            demand(at == start + -(-(end - start) // 64) * 64, f"the place of {entry['name']}")
            demand(not any(data[end:at]), f"bytes before {entry['name']}")
            end = at + entry["length"]
            self.tensors[entry["name"]] = read_tensor(entry, data[at:end])
        demand(end == self.header["file_len"], "the end of the data")
        self.check_set()

    def check_set(self):
        """Compare the tensors with those that the configuration demands."""
        expected = {}
        for name, shape, codable in demanded_tensors(self.manifest["config"]):
            demand(name in self.entries, f"{name} is missing")
            expected[name] = shape
            if self.entries[name]["encoding"] in LEVELS:
                demand(codable, f"{name} must not be codes")
                for suffix in ("scale", "offset"):
                    expected[f"{name}.{suffix}"] = shape[:1]
        demand({name: entry["shape"] for name, entry in self.entries.items()} == expected, "the tensor set")
        for name, values in self.tensors.items():
            demand(not name.endswith(".scale") or (values >= 0).all(), f"{name} is negative")
        classes = len(self.manifest["class_names"])
        demand(classes in (0, self.manifest["config"]["num_classes"]), "the number of class names")

    def weight(self, name):
        """The tensor as the runtime sees it."""
        values = self.tensors[name]
        if self.entries[name]["encoding"] not in LEVELS:
            return values
        per_row = [-1] + [1] * (values.ndim - 1)
        scale, offset = (self.tensors[f"{name}.{part}"].reshape(per_row) for part in ("scale", "offset"))
        return scale * values.astype(np.float32) + offset


def read_safetensors(path):
    """Tensors of a safetensors file by name."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    kinds = {"F32": "<f4", "U8": "u1"}
    tensors = {}
    for name, about in header.items():
        start, end = (8 + length + at for at in about["data_offsets"])
        tensors[name] = np.frombuffer(data[start:end], kinds[about["dtype"]]).reshape(about["shape"])
    return tensors


def same(what, ours, theirs):
    """Refuse what this reader and the program see differently."""
    demand(ours == theirs, f"{what}: this reader finds {ours!r}, the program {theirs!r}")


def compare_inspect(model, said):
    """Compare with what `fresnel inspect --codes --json` printed."""
    manifest = model.manifest
    same("file_bytes", model.header["file_len"], said["file_bytes"])
    same("data_bytes", model.header["data_len"], said["data_bytes"])
    same("class_names", len(manifest["class_names"]), said["class_names"])
    for section in ("config", "preprocessing"):
        for name, value in manifest[section].items():
            same(f"{section}.{name}", value, said[section][name])
        same(f"fields of {section}", set(manifest[section]), set(said[section]))
    for section in ("recipe", "provenance", "measured", "metadata"):
        same(section, dict(manifest[section]), said[section])
    names = [name for name, _, _ in demanded_tensors(manifest["config"])]
    same("layers", names, [layer["name"] for layer in said["layers"]])
    for layer in said["layers"]:
        entry = model.entries[layer["name"]]
        parts = [layer["name"]] + [f"{layer['name']}.{suffix}" for suffix in ("scale", "offset")]
        same(f"shape of {layer['name']}", entry["shape"], layer["shape"])
        bits = {"f32": 32, "f16": 16} | BITS
        same(f"bits of {layer['name']}", bits[entry["encoding"]], layer["bits"])
        length = sum(model.entries[part]["length"] for part in parts if part in model.entries)
        same(f"bytes of {layer['name']}", length, layer["bytes"])
    coded = {name: entry for name, entry in model.entries.items() if entry["encoding"] in LEVELS}
    same("coded weights", sorted(coded), sorted(weight["name"] for weight in said["codes"]["weights"]))
    for weight in said["codes"]["weights"]:
        name = weight["name"]
        counts = np.bincount(model.tensors[name].ravel(), minlength=LEVELS[coded[name]["encoding"]])
        same(f"histogram of {name}", counts.tolist(), weight["histogram"])
        shares = counts[counts > 0] / counts.sum()
        entropy = -(shares * np.log2(shares)).sum()
        demand(abs(entropy - weight["entropy_bits_per_weight"]) < 1e-9, f"entropy of {name}")


def compare_export(model, exported):
    """Compare with what `fresnel export --codes` wrote."""
    expected = {}
    for name, _, _ in demanded_tensors(model.manifest["config"]):
        expected[name] = model.weight(name)
        if model.entries[name]["encoding"] in LEVELS:
            expected[f"{name}.codes"] = model.tensors[name]
            expected[f"{name}.scale"] = model.tensors[f"{name}.scale"]
            expected[f"{name}.offset"] = model.tensors[f"{name}.offset"]
    same("exported tensors", sorted(expected), sorted(exported))
    for name, values in expected.items():
        same(f"shape of {name}", values.shape, exported[name].shape)
        demand(np.array_equal(values, exported[name]), f"{name}: the exported values differ")


def vector(specification):
    """The test vector, from the hexadecimal digits of the specification."""
    text = specification[specification.index("## Test vector") :]
    length, checksum = re.search(r"([0-9]+) bytes, CRC-32 `([0-9a-f]{8})`", text.replace("\n", " ")).groups()
    data = bytearray(int(length))
    for block in re.findall(r"```text\n(.*?)```", text, re.S):
        for line in block.splitlines():
            offset, *words = line.split()
            digits = "".join(word for word in words if re.fullmatch(r"(?:[0-9a-f]{2})+", word))
            piece = bytes.fromhex(digits)
            data[int(offset) : int(offset) + len(piece)] = piece
    demand(zlib.crc32(data) == int(checksum, 16), "the test vector's checksum")
    return bytes(data)


def check(arguments):
    """Run `check`."""
    with open(arguments.model, "rb") as file:
        model = Model(file.read())
    if arguments.inspect:
        with open(arguments.inspect, encoding="utf-8") as file:
            compare_inspect(model, json.load(file))
    if arguments.export:
        compare_export(model, read_safetensors(arguments.export))
    return model


def check_vector(arguments):
    """Run `vector`."""
    with open(arguments.specification, encoding="utf-8") as file:
        model = Model(vector(file.read()))
    for name, entry in model.entries.items():
        if entry["encoding"] in LEVELS:
            codes = model.tensors[name].ravel()
            expected = 7 * np.arange(codes.size) % LEVELS[entry["encoding"]]
            same(f"codes of {name}", expected.tolist(), codes.tolist())
            demand((model.tensors[f"{name}.scale"] == 0.5).all(), f"scale of {name}")
            demand((model.tensors[f"{name}.offset"] == -1).all(), f"offset of {name}")
    return model


def main():
    """Run the command that the arguments name; 3 for a bad file."""
    parser = argparse.ArgumentParser(description="Reads .fresnel files by their specification.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("check")
    command.add_argument("model")
    command.add_argument("--inspect", help="what `fresnel inspect --codes --json` printed")
    command.add_argument("--export", help="what `fresnel export --codes` wrote")
    command.set_defaults(run=check)
    command = commands.add_parser("vector")
    command.add_argument("specification")
    command.set_defaults(run=check_vector)
    arguments = parser.parse_args()
    try:
        model = arguments.run(arguments)
    except BadFile as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    widths = sorted({entry["encoding"] for entry in model.entries.values()})
    print(f"good: {len(model.tensors)} tensors, {', '.join(widths)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
