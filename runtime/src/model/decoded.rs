//! The tensors of a file as plain numbers, for those who look at them instead of running them.

use fresnel_kernels::{Width, pack};
use half::f16;

use crate::error::{Error, ErrorKind};
use crate::format::{Container, Encoding};

/// Codes of a weight with what makes numbers of them: `scale[row] * code + offset[row]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// Width of the codes.
    pub width: Width,
    /// Row-major, `[rows, columns]`, each below [`Width::levels`].
    pub codes: Vec<u8>,
    /// Input features of an output channel.
    pub columns: usize,
    /// One per row.
    pub scale: Vec<f32>,
    /// One per row.
    pub offset: Vec<f32>,
}

impl Codes {
    /// The weights `[rows, columns]`.
    pub fn dequantize(&self) -> Vec<f32> {
        let rows = self.codes.chunks(self.columns.max(1)).zip(self.scale.iter().zip(&self.offset));
        rows.flat_map(|(row, (c, d))| row.iter().map(move |&code| c * f32::from(code) + d))
            .collect()
    }

    /// How often each code occurs, [`Width::levels`] counts.
    pub fn histogram(&self) -> Vec<u64> {
        let mut counts = vec![0; 256];
        for &code in &self.codes {
            counts[usize::from(code)] += 1;
        }
        counts.truncate(self.width.levels() as usize);
        counts
    }
}

/// Shannon entropy of a histogram, in bits per value; 0 of an empty one.
pub fn entropy(histogram: &[u64]) -> f64 {
    let total = histogram.iter().sum::<u64>() as f64;
    let shares = histogram.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total);
    // Not -0 for a single value.
    shares.map(|share| share * share.recip().log2()).sum()
}

/// The codes of the tensor `name`; `None` where it is stored as floats.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming the tensor when it or a companion is missing, [`ErrorKind::Corrupt`] when its codes are
/// bad.
pub fn codes(container: &Container, name: &str) -> Result<Option<Codes>, Error> {
    let tensor = container.tensor(name).ok_or_else(|| missing(name))?;
    let Encoding::Codes(width) = tensor.entry.encoding else {
        return Ok(None);
    };
    let width = Width::from(width);
    let (rows, columns) = matrix_shape(&tensor.entry.shape);
    let codes = pack::unpack(width, rows, columns, tensor.bytes).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "bad codes").at_tensor(name).with_source(error)
    })?;
    let scale = values(container, &format!("{name}.scale"))?;
    let offset = values(container, &format!("{name}.offset"))?;
    Ok(Some(Codes { width, codes, columns, scale, offset }))
}

/// The values of the tensor `name`, codes expanded to `scale * code + offset`.
///
/// # Errors
/// As [`codes`].
pub fn values(container: &Container, name: &str) -> Result<Vec<f32>, Error> {
    if let Some(codes) = codes(container, name)? {
        return Ok(codes.dequantize());
    }
    let tensor = container.tensor(name).ok_or_else(|| missing(name))?;
    let mut values = Vec::new();
    extend(&mut values, tensor.entry.encoding, tensor.bytes).map(|()| values)
}

pub(crate) fn missing(name: &str) -> Error {
    Error::new(ErrorKind::Invalid, "the file has no such tensor").at_tensor(name)
}

/// Rows and columns of a weight: outputs and the product of the other dimensions.
pub(crate) fn matrix_shape(shape: &[u32]) -> (usize, usize) {
    let (first, rest) = shape.split_first().unwrap_or((&0, &[]));
    (*first as usize, rest.iter().map(|&dimension| dimension as usize).product())
}

/// Appends the numbers of little-endian `bytes`.
pub(crate) fn extend(values: &mut Vec<f32>, encoding: Encoding, bytes: &[u8]) -> Result<(), Error> {
    match encoding {
        Encoding::F32 => {
            values.extend(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)));
        }
        Encoding::F16 => {
            let halves = bytes.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value));
            values.extend(halves.map(f16::to_f32));
        }
        Encoding::Codes(_) => {
            return Err(Error::new(ErrorKind::Invalid, "expected floats, found codes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_what_its_definition_says() {
        for (histogram, expected) in
            [(&[][..], 0.0), (&[7, 0], 0.0), (&[1, 1], 1.0), (&[1, 1, 2], 1.5), (&[3; 16], 4.0)]
        {
            assert!((entropy(histogram) - expected).abs() < 1e-12, "{histogram:?}");
        }
    }

    #[test]
    fn histograms_count_every_level() {
        let codes = Codes {
            width: Width::Ternary,
            codes: vec![0, 2, 2, 0],
            columns: 2,
            scale: vec![0.5, 2.0],
            offset: vec![-1.0, 0.0],
        };
        assert_eq!(codes.histogram(), [2, 0, 2]);
        assert_eq!(codes.dequantize(), [-1.0, 0.0, 4.0, 0.0]);
    }
}
