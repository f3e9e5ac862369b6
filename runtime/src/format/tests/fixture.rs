//! Small models for the tests, and a way to write files that break the rules.

use std::borrow::Cow;

use fresnel_kernels::{Width, pack};

use crate::format::header::{Header, MINOR};
use crate::format::manifest::{CodeWidth, CropMode, Encoding, Interpolation, Manifest};
use crate::format::manifest::{Preprocessing, TensorEntry};
use crate::format::writer::{ManifestParts, TensorData};
use crate::format::{Container, encode_float, float};
use crate::model::config::tests::deit_tiny;
use crate::model::config::{Role, VitConfig};

/// A model of one block whose rows end within a byte at every width.
pub(in crate::format) fn config() -> VitConfig {
    VitConfig {
        architecture: "test".to_owned(),
        image_size: [4, 6],
        patch_size: [2, 3],
        in_channels: 1,
        embed_dim: 6,
        depth: 1,
        num_heads: 2,
        mlp_hidden: 7,
        proj_bias: false,
        layer_scale: true,
        num_classes: 3,
        ..deit_tiny()
    }
}

/// The parts of a file for `config`, every list having an entry.
pub(super) fn parts(config: &VitConfig) -> ManifestParts {
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    ManifestParts {
        preprocessing: Preprocessing {
            input_size: config.image_size,
            crop_pct: 0.875,
            crop_mode: CropMode::Center,
            interpolation: Interpolation::Bicubic,
            mean: [0.5; 3],
            std: [0.25; 3],
        },
        class_names: (0..config.num_classes).map(|class| format!("class {class}")).collect(),
        recipe: pair("method", "rtn"),
        provenance: pair("tool", "test"),
        measured: vec![("int8_agreement".to_owned(), 98.5)],
        metadata: pair("note", "two\nlines"),
        config: config.clone(),
    }
}

/// The five widths in turn, so that a model with five weights has them all.
pub(super) fn mixed_width(weight: usize) -> Encoding {
    Encoding::Codes(match weight % 5 {
        0 => CodeWidth::Eight,
        1 => CodeWidth::Ternary,
        2 => CodeWidth::Two,
        3 => CodeWidth::Three,
        _ => CodeWidth::Four,
    })
}

/// The tensors of `config`, the weights as `encoding` of their running number says.
pub(super) fn tensors(
    config: &VitConfig,
    encoding: impl Fn(usize) -> Encoding,
) -> Vec<TensorData<'static>> {
    let mut tensors = Vec::new();
    let mut weight = 0;
    for spec in config.tensors() {
        let count: u32 = spec.shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 + 1.0) / 16.0).collect();
        let chosen = if spec.role == Role::Other {
            None
        } else {
            weight += 1;
            Some(encoding(weight - 1))
        };
        let (encoding, bytes) = match chosen {
            None => encode_float(&values).unwrap(),
            Some(Encoding::F32) => (Encoding::F32, float::encode_f32(&values)),
            Some(Encoding::F16) => (Encoding::F16, float::encode_f16(&values)),
            Some(Encoding::Codes(width)) => {
                let rows = spec.shape[0];
                for (suffix, value) in [(".scale", 0.5_f32), (".offset", -1.0)] {
                    let (encoding, bytes) = encode_float(&vec![value; rows as usize]).unwrap();
                    tensors.push(TensorData {
                        name: format!("{}{suffix}", spec.name),
                        shape: vec![rows],
                        encoding,
                        bytes: Cow::Owned(bytes),
                    });
                }
                (Encoding::Codes(width), packed(width.into(), rows, count / rows))
            }
        };
        tensors.push(TensorData {
            name: spec.name,
            shape: spec.shape,
            encoding,
            bytes: Cow::Owned(bytes),
        });
    }
    tensors
}

fn packed(width: Width, rows: u32, columns: u32) -> Vec<u8> {
    let codes: Vec<u8> = (0..rows * columns).map(|i| (i * 7 % width.levels()) as u8).collect();
    pack::pack(width, rows as usize, columns as usize, &codes).unwrap()
}

/// The bytes of the model of [`config`] with weights of every width.
pub(super) fn file() -> Vec<u8> {
    let config = config();
    crate::format::encode(&parts(&config), &tensors(&config, mixed_width)).unwrap()
}

/// A file taken apart, to be changed and put together again with fresh checksums and lengths.
pub(super) struct Parts {
    pub(super) manifest: Manifest,
    pub(super) data: Vec<u8>,
    /// What follows the manifest's last field.
    pub(super) tail: Vec<u8>,
    pub(super) minor: u16,
    pub(super) flags: u32,
}

impl Parts {
    pub(super) fn new() -> Parts {
        Parts::of(&file())
    }

    /// The parts of a valid file.
    pub(super) fn of(file: &[u8]) -> Parts {
        let manifest = Container::from_bytes(file).unwrap().manifest().clone();
        let last = manifest.tensors.last().unwrap();
        let data_len = (last.offset + last.length) as usize;
        Parts {
            data: file[file.len() - data_len..].to_vec(),
            manifest,
            tail: Vec::new(),
            minor: MINOR,
            flags: 0,
        }
    }

    pub(super) fn entry(&mut self, name: &str) -> &mut TensorEntry {
        let found = self.manifest.tensors.iter_mut().find(|entry| entry.name == name);
        found.unwrap()
    }

    /// Changes the data of tensor `name` and its checksum.
    pub(super) fn change_data(&mut self, name: &str, change: impl FnOnce(&mut [u8])) {
        let entry = self.manifest.tensors.iter_mut().find(|entry| entry.name == name).unwrap();
        let start = entry.offset as usize;
        let bytes = &mut self.data[start..start + entry.length as usize];
        change(bytes);
        entry.crc32 = crc32fast::hash(bytes);
    }

    /// `file` with changed data of tensor `name`, all checksums being right.
    pub(super) fn change_of(file: &[u8], name: &str, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut parts = Parts::of(file);
        parts.change_data(name, change);
        parts.assemble()
    }

    /// The same tensors, the last one first.
    pub(super) fn reversed(mut self) -> Parts {
        let mut data = Vec::new();
        self.manifest.tensors.reverse();
        for entry in &mut self.manifest.tensors {
            data.resize(data.len().next_multiple_of(64), 0);
            let offset = data.len() as u64;
            data.extend_from_slice(&self.data[entry.offset as usize..][..entry.length as usize]);
            entry.offset = offset;
        }
        Parts { data, ..self }
    }

    /// The file, its header consistent with manifest and data.
    pub(super) fn assemble(&self) -> Vec<u8> {
        let mut manifest = postcard::to_allocvec(&self.manifest).unwrap();
        manifest.extend_from_slice(&self.tail);
        assemble(&manifest, &self.data, self.minor, self.flags)
    }
}

/// A file of an encoded manifest and data, with a consistent header.
pub(super) fn assemble(manifest: &[u8], data: &[u8], minor: u16, flags: u32) -> Vec<u8> {
    let header = Header {
        minor,
        flags,
        manifest_len: manifest.len() as u32,
        manifest_crc32: crc32fast::hash(manifest),
        data_len: data.len() as u64,
    };
    let mut file = header.encode().to_vec();
    file.extend_from_slice(manifest);
    file.resize(header.data_offset() as usize, 0);
    file.extend_from_slice(data);
    file
}

/// Recomputes the header's checksum after a change to the header.
pub(super) fn seal_header(file: &mut [u8]) {
    let crc32 = crc32fast::hash(&file[..60]);
    file[60..64].copy_from_slice(&crc32.to_le_bytes());
}
