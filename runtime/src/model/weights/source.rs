//! Reading weights: the tensors of a file, each laid out before the next is read.

use std::io::{Read, Seek};

use fresnel_kernels::Activation as KernelActivation;

use super::{Block, Linear, Norm, Placement};
use crate::error::{Error, ErrorKind};
use crate::format::reader::Reader;
use crate::format::{Encoding, TensorEntry};
use crate::model::config::{Activation, VitConfig};
use crate::model::decoded::{extend, matrix_shape, missing};

/// Where the weights come from.
pub(super) struct Source<'a, R, P> {
    pub(super) reader: &'a mut Reader<R>,
    pub(super) placement: P,
    /// That of every LayerNorm.
    pub(super) epsilon: f32,
}

impl<R: Read + Seek, P: Placement> Source<'_, R, P> {
    pub(super) fn block(&mut self, index: u32, config: &VitConfig) -> Result<Block<P>, Error> {
        let name = |part: &str| format!("blocks.{index}.{part}");
        Ok(Block {
            norm1: self.norm(&name("norm1"))?,
            qkv: self.linear(&name("attn.qkv"))?,
            q_norm: self.optional_norm(&name("attn.q_norm"))?,
            k_norm: self.optional_norm(&name("attn.k_norm"))?,
            proj: self.linear(&name("attn.proj"))?,
            layer_scale1: self.optional_vector(&name("ls1.gamma"))?,
            norm2: self.norm(&name("norm2"))?,
            fc1: self.linear(&name("mlp.fc1"))?,
            activation: match config.activation {
                Activation::GeluErf => KernelActivation::GeluErf,
                Activation::GeluTanh => KernelActivation::GeluTanh,
                Activation::QuickGelu => KernelActivation::QuickGelu,
            },
            fc2: self.linear(&name("mlp.fc2"))?,
            layer_scale2: self.optional_vector(&name("ls2.gamma"))?,
        })
    }

    pub(super) fn linear(&mut self, name: &str) -> Result<Linear<P>, Error> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"))?,
            bias: self.optional_vector(&format!("{name}.bias"))?,
        })
    }

    pub(super) fn optional_linear(&mut self, name: &str) -> Result<Option<Linear<P>>, Error> {
        let present = self.reader.entry(&format!("{name}.weight")).is_some();
        present.then(|| self.linear(name)).transpose()
    }

    pub(super) fn norm(&mut self, name: &str) -> Result<Norm<P>, Error> {
        Ok(Norm {
            gamma: self.vector(&format!("{name}.weight"))?,
            beta: self.vector(&format!("{name}.bias"))?,
            epsilon: self.epsilon,
        })
    }

    pub(super) fn optional_norm(&mut self, name: &str) -> Result<Option<Norm<P>>, Error> {
        let present = self.reader.entry(&format!("{name}.weight")).is_some();
        present.then(|| self.norm(name)).transpose()
    }

    pub(super) fn optional_vector(&mut self, name: &str) -> Result<Option<P::Vector>, Error> {
        let present = self.reader.entry(name).is_some();
        present.then(|| self.vector(name)).transpose()
    }

    pub(super) fn optional_rows(&mut self, name: &str) -> Result<Option<P::Rows>, Error> {
        let Some(entry) = self.reader.entry(name) else { return Ok(None) };
        let columns = entry.shape.last().map_or(1, |&columns| columns as usize);
        let values = self.values(name)?;
        self.placement.rows(values, columns).map(Some).map_err(|error| error.at_tensor(name))
    }

    fn matrix(&mut self, name: &str) -> Result<P::Matrix, Error> {
        let named = |error: Error| error.at_tensor(name);
        let entry = self.entry(name)?;
        let (n, k) = matrix_shape(&entry.shape);
        let encoding = entry.encoding;
        let placement = self.placement.clone();
        let mut builder = placement.builder(encoding, n, k).map_err(named)?;
        self.reader.rows(name, |rows| placement.push(&mut builder, rows).map_err(named))?;
        let (scale, offset) = if matches!(encoding, Encoding::Codes(_)) {
            (self.values(&format!("{name}.scale"))?, self.values(&format!("{name}.offset"))?)
        } else {
            (Vec::new(), Vec::new())
        };
        placement.finish(builder, &scale, &offset).map_err(named)
    }

    fn vector(&mut self, name: &str) -> Result<P::Vector, Error> {
        let values = self.values(name)?;
        self.placement.vector(values).map_err(|error| error.at_tensor(name))
    }

    /// The values of a tensor that is not stored as codes.
    fn values(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        let entry = self.entry(name)?;
        let encoding = entry.encoding;
        let count: usize = entry.shape.iter().map(|&dimension| dimension as usize).product();
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|error| {
            Error::new(ErrorKind::Limit, format!("no memory for {count} values"))
                .at_tensor(name)
                .with_source(error)
        })?;
        self.reader.values(name, |bytes| extend(&mut values, encoding, bytes))?;
        Ok(values)
    }

    fn entry(&self, name: &str) -> Result<&TensorEntry, Error> {
        self.reader.entry(name).ok_or_else(|| missing(name))
    }
}
