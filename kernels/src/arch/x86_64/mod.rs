//! x86-64 kernels.

mod amx;
mod avx2;
mod avx2_integer;
mod avx512;
mod avx_vnni;
mod exponentials;
mod fetch;
mod gelu;
mod rounding;
mod rows;
mod tile_block;
mod tile_panel;
mod tile_registers;
mod vector_256;

pub(crate) use amx::Amx;
pub(crate) use avx_vnni::AvxVnni;
pub(crate) use avx2::Avx2;
pub(crate) use avx512::Avx512Vnni;
pub(crate) use tile_registers::CONFIGURATION;
