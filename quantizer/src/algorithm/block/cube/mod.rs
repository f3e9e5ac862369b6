//! Blocks as CubeCL kernels on burn's GPU tensors: one launch works through all coordinates of a
//! block, one unit per channel, and nothing is read back.
//!
//! A cube stands for [`UNITS`] channels. It keeps the diagonal block of the matrix and its channels'
//! columns in shared memory, 8 KiB together; a unit touches only its own column, so the one barrier
//! is behind the loading of the matrix. Arithmetic follows [`super::host`] in f32 throughout, step by
//! step, so that both choose the same codes but where rounding decides.
//!
//! WGSL knows neither infinities nor NaN: what the host computes and then ignores is not computed here.

pub(super) mod descent;
pub(super) mod nearest;
pub(super) mod path;
pub(super) mod rounding;

use std::sync::atomic::{AtomicU64, Ordering};

use burn::backend::TensorMetadata;
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use fresnel_runtime::{Error, ErrorKind};

use super::BLOCK;

/// Channels per cube, one per unit.
const UNITS: usize = 32;

/// Elements of the matrix block in shared memory.
const MATRIX: usize = BLOCK * BLOCK;

/// Elements of the columns in shared memory.
const COLUMNS: usize = BLOCK * UNITS;

static LAUNCHES: AtomicU64 = AtomicU64::new(0);

/// Number of block kernels that this process has launched.
pub fn launches() -> u64 {
    LAUNCHES.load(Ordering::Relaxed)
}

/// One launch: a cube for every [`UNITS`] of the channels.
struct Launch {
    like: CubeTensor,
    rows: usize,
    channels: usize,
}

impl Launch {
    /// A launch for blocks shaped like `columns`, b x C.
    fn new(columns: &CubeTensor) -> Self {
        LAUNCHES.fetch_add(1, Ordering::Relaxed);
        let shape = columns.shape();
        Self { like: columns.clone(), rows: shape[0], channels: shape[1] }
    }

    fn client(&self) -> &cubecl::client::Client {
        &self.like.client
    }

    fn cubes(&self) -> CubeCount {
        CubeCount::Static(self.channels.div_ceil(UNITS) as u32, 1, 1)
    }

    fn units(&self) -> CubeDim {
        CubeDim::new_1d(UNITS as u32)
    }

    /// A tensor of `rows` x C for a result.
    fn result(&self, rows: usize) -> CubeTensor {
        let shape = [rows, self.channels].into();
        let like = &self.like;
        empty_device_dtype(like.client.clone(), like.device.clone(), shape, like.dtype)
    }
}

/// The backend's own tensor with rows one after the other.
fn open(tensor: Tensor<2>) -> Result<CubeTensor, Error> {
    let tensor = tensor.try_into_primitive::<CubeBackend>().map_err(|error| {
        Error::new(ErrorKind::Device, format!("a tensor is not on the GPU: {error:?}"))
    })?;
    Ok(into_contiguous(tensor))
}

/// The way back from [`open`].
fn close(tensor: CubeTensor) -> Tensor<2> {
    Tensor::from_primitive::<CubeBackend>(tensor)
}

/// Copies the `rows` x `rows` block of a matrix into shared memory.
#[cube]
fn load_matrix(from: &[f32], to: &mut Shared<[f32]>, rows: u32) {
    let mut index = UNIT_POS as usize;
    let count = (rows * rows) as usize;
    while index < count {
        to[index] = from[index];
        index += UNITS;
    }
}

/// Copies one channel's column of a `rows` x `channels` matrix into shared memory.
#[cube]
fn load_column(from: &[f32], to: &mut Shared<[f32]>, rows: u32, channels: usize) {
    for t in 0..rows as usize {
        to[t * UNITS + UNIT_POS as usize] = from[t * channels + ABSOLUTE_POS];
    }
}
