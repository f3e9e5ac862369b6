//! Sizes of files that need not exist: the arithmetic bound, which is what the tensors take at the
//! least whatever the container, and the length of the file with its container.

use std::collections::HashMap;

use super::header::{ALIGNMENT, Header, MINOR};
use super::manifest::{Encoding, TensorEntry};
use super::validate::encoded_length;
use super::writer::ManifestParts;
use crate::error::{Error, ErrorKind};
use crate::model::config::{Role, VitConfig};

/// What header, manifest and padding may add to the bound, beside one per cent of it.
pub const MAX_CONTAINER_BYTES: u64 = 64 * 1024;

/// Bytes of the model's tensors: weights at their own width, codes with a 16-bit scale and offset per row,
/// everything else (biases, norms, tokens, position embedding) at 16 bits.
///
/// In a file that stores every block weight in 32 bits, everything else counts 32 bits as well: there,
/// full precision is what was asked for. A file is within 1 % of this bound plus
/// [`MAX_CONTAINER_BYTES`]. `tensors` are those of a valid manifest for `config`.
pub fn size_bound(config: &VitConfig, tensors: &[TensorEntry]) -> u64 {
    let specs = config.tensors();
    let encodings: HashMap<&str, Encoding> =
        tensors.iter().map(|entry| (entry.name.as_str(), entry.encoding)).collect();
    let own = |name: &str| encodings.get(name).copied().unwrap_or(Encoding::F32);
    let all_single = specs
        .iter()
        .filter(|spec| spec.role == Role::Linear)
        .all(|spec| own(&spec.name) == Encoding::F32);
    let rest = if all_single { Encoding::F32 } else { Encoding::F16 };

    specs
        .iter()
        .map(|spec| {
            let encoding = if spec.role == Role::Other { rest } else { own(&spec.name) };
            let values = encoded_length(&spec.shape, encoding).unwrap_or(u64::MAX);
            let rows = spec.shape.first().copied().map_or(0, u64::from);
            let companions = match encoding {
                Encoding::Codes(_) => rows.saturating_mul(4),
                Encoding::F16 | Encoding::F32 => 0,
            };
            values.saturating_add(companions)
        })
        .fold(0, u64::saturating_add)
}

/// Length of the file with these parts and tensors, to within the few bytes by which checksums differ
/// in length: never less than what [`write`](super::write) makes of them.
///
/// `tensors` are in the order of the file; their offsets, lengths and checksums are not looked at.
///
/// # Errors
/// [`ErrorKind::Limit`] when the file would be too long to count, [`ErrorKind::Invalid`] when the
/// manifest can't be encoded.
pub fn file_size_limit(parts: &ManifestParts, tensors: &[TensorEntry]) -> Result<u64, Error> {
    let too_long =
        |name: &str| Error::new(ErrorKind::Limit, "the tensors' data is too large").at_tensor(name);
    let mut data_len = 0_u64;
    let mut entries = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let place = || {
            let offset = data_len.checked_next_multiple_of(ALIGNMENT)?;
            let length = encoded_length(&tensor.shape, tensor.encoding)?;
            Some((offset, length, offset.checked_add(length)?))
        };
        let (offset, length, end) = place().ok_or_else(|| too_long(&tensor.name))?;
        data_len = end;
        // The longest checksum in the manifest's variable-length numbers.
        entries.push(TensorEntry { offset, length, crc32: u32::MAX, ..tensor.clone() });
    }
    let manifest = parts.manifest(entries).encode()?;
    let manifest_len = u32::try_from(manifest.len())
        .map_err(|_| Error::new(ErrorKind::Limit, "the manifest is too long"))?;
    Ok(Header { minor: MINOR, flags: 0, manifest_len, manifest_crc32: 0, data_len }.file_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::CodeWidth;
    use crate::format::tests::fixture;

    fn deit_base() -> VitConfig {
        VitConfig {
            architecture: "deit_base_patch16_224".to_owned(),
            image_size: [224, 224],
            patch_size: [16, 16],
            in_channels: 3,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_hidden: 3072,
            proj_bias: true,
            layer_scale: false,
            num_classes: 1000,
            ..fixture::config()
        }
    }

    fn bound(linear: Encoding, edge: Encoding) -> u64 {
        let config = deit_base();
        let entries: Vec<TensorEntry> = config
            .tensors()
            .into_iter()
            .map(|spec| TensorEntry {
                name: spec.name,
                shape: spec.shape,
                encoding: match spec.role {
                    Role::Linear => linear,
                    Role::Edge => edge,
                    Role::Other => Encoding::F32,
                },
                offset: 0,
                length: 0,
                crc32: 0,
            })
            .collect();
        size_bound(&config, &entries)
    }

    #[test]
    fn deit_base_takes_what_arithmetic_says() {
        // 84,934,656 block weights in 82,944 rows, 1,357,824 edge weights in 1,768 rows, 275,176 others.
        let rest = 2 * 275_176;
        let expected = [
            (CodeWidth::Ternary, 12 * (154 * (2304 + 768 + 3072) + 615 * 768)),
            (CodeWidth::Two, 84_934_656 / 4),
            (CodeWidth::Three, 84_934_656 / 8 * 3),
            (CodeWidth::Four, 84_934_656 / 2),
            (CodeWidth::Eight, 84_934_656),
        ];
        for (width, codes) in expected {
            let linear = Encoding::Codes(width);
            let expected = codes + 4 * 82_944 + rest;
            assert_eq!(bound(linear, Encoding::F16), expected + 2 * 1_357_824, "{width:?}");
            let edge = Encoding::Codes(CodeWidth::Eight);
            assert_eq!(bound(linear, edge), expected + 1_357_824 + 4 * 1_768, "{width:?}");
        }
        assert_eq!(bound(Encoding::F16, Encoding::F16), 2 * 86_567_656);
        assert_eq!(bound(Encoding::F32, Encoding::F32), 4 * 86_567_656);
    }
}
