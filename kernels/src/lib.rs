//! Packed low-bit matrices and the arithmetic of a Vision Transformer on them.
//!
//! A weight is `scale[n] * k + offset[n]`: an unsigned code `k` of 1.58, 2, 3, 4 or 8 bit ([`Width`]), and one scale and one
//! offset per output channel. This crate packs codes ([`pack`]), lays them out for the instructions of the machine
//! ([`Matrix`]), multiplies them by activations without ever holding an expanded copy ([`matmul`]), and
//! has the operations between the matmuls ([`ops`]). It knows no file, model or image.
//!
//! ```
//! use fresnel_kernels::{Activations, Arithmetic, Epilogue, Layout, Isa, Matrix, Pool, Rows, Width, matmul, pack};
//!
//! // Two output channels of four input features, at 2 bit: w = 0.5 * k - 1.
//! let codes = [0, 1, 2, 3, 3, 3, 0, 0];
//! let packed = pack::pack(Width::Two, 2, 4, &codes)?;
//! let isa = Isa::from_env()?;
//! let weights = Matrix::from_codes(isa, Width::Two, 2, 4, &packed, &[0.5; 2], &[-1.0; 2])?;
//!
//! let pool = Pool::with_isa(1, isa)?;
//! let mut activations = Activations::new();
//! let row = Rows::Plain { values: &[1.0, 2.0, 3.0, 4.0], columns: 4, layout: Layout::Rows };
//! activations.pack(&pool, Arithmetic::F32, &row);
//! let mut out = [0.0; 2];
//! matmul(&pool, &activations, &weights, &Epilogue::default(), &mut out);
//! assert_eq!(out, [0.0 + 0.5 * 4.0 - 2.0 * 0.5 - 1.0, 0.5 + 1.0 - 3.0 - 4.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What depends on what
//!
//! ```text
//! pack        canonical bytes <-> codes                      safe code
//! pack/panel  codes in the order of the registers            safe code, compiled per instruction set
//! pack/lane   canonical bytes -> that order, by whole words  safe code
//! matrix      panels, scales and offsets of one matrix       safe code
//! layout      how activations lie in memory
//! rows        where activations come from: numbers, layer normalisation, patches of pixels
//! activations rows quantised or rounded, in the order of the registers
//! matmul      loops, expansion, epilogue                     safe code, compiled per instruction set
//! ops         layer norm, softmax, GELU, attention           safe code, compiled per instruction set
//! arch        detection, micro-kernels, disjoint tiles       unsafe code
//! threads     who does which piece of an operation           unsafe: a region is shared while it is open
//! gpu         products on a GPU (feature `gpu`)              unsafe: shaders without bounds checks
//! reference   the same in f64                                what tests compare with
//! ```
//!
//! # Kernels
//!
//! Chosen at run time; one binary, built for the baseline of its target, has all of them. `FRESNEL_ISA` forces one.
//!
//! | [`Isa`] | float tile | integer tile | integer products |
//! |---|---|---|---|
//! | `amx` | 12 x 32 | 32 x 32 | `tdpbsud`; bfloat16 with `tdpbf16ps` |
//! | `avx512vnni` | 12 x 32 | 12 x 32 | `vpdpbusd`, 512 bits |
//! | `avxvnni` | 6 x 16 | 6 x 16 | `vpdpbusd`, 256 bits |
//! | `avx2` | 6 x 16 | 6 x 16 | `vpmaddubsw` gathered in 16 bits; `vpmaddwd` for codes of 8 bit |
//! | `i8mm` | 6 x 16 | 6 x 16 | `usmmla` |
//! | `dotprod` | 6 x 16 | 6 x 16 | `sdot` by element |
//! | `neon` | 6 x 16 | 4 x 16 | `smlal` gathered in 16 bits; differences of two products at 8 bit |
//! | `scalar` | 4 x 8 | 4 x 8 | plain Rust |
//!
//! A kernel is named `{isa}-w{weight bits}a{activation bits}-{rows}x{columns}` ([`Matrix::kernel_name`]). Memory held per
//! weight is the width, 2 bits for 1.58-bit codes, plus 12 bytes per output channel ([`Matrix::resident_bytes`]).
//!
//! # What is guaranteed
//!
//! - In float and in integer arithmetic every result has the same bits on all instruction sets: products are added in
//!   one order and with one rounding each, and functions are computed by the same operations. Half precision adds as the
//!   hardware does.
//! - No result depends on the number of threads, or on the other rows of a batch.
//! - No input, finite or not, causes undefined behaviour; a non-finite activation makes its own row non-finite only. Wrong
//!   lengths panic, as documented; everything that may come from a file is refused with an error.
//! - No operation allocates once the buffers of its thread have grown to their size, save for a few hundred bytes.
//!
//! # Rates
//!
//! `fresnel-run bench --kernels` times every kernel at the shapes of DeiT-B or of a model, as a share of the peak rate of its
//! instruction ([`Peak`]) in the same run, and the other operations after them. `cargo run --release -p fresnel-kernels
//! --example matmul_rate` times the products beside the `gemm` crate.
//!
//! # Adding a kernel
//!
//! 1. In `arch/<target>/`, a token that only detection makes, and its `Simd` implementation: tile size, the two
//!    micro-kernels as safe `#[target_feature]` functions, and one `// SAFETY:` per call that names the token.
//! 2. A variant of [`Isa`] and of `Token`; `dispatch!` and the panel layout follow from `LANES`.
//! 3. In `arch/peak/`, the loop over its multiply instruction.
//! 4. In each micro-kernel, `ran!` with a name, which `arch/tests.rs` expects of the instruction set. Nothing else in the
//!    tests: every case runs over all of [`Isa::available`]. The test binary prints which sets it ran and which it skipped;
//!    `FRESNEL_EXPECT_ISAS=scalar,avx2` makes a skip of those a failure.

// Loops over the lanes of several arrays at once, of a constant length, are what becomes vector code.
#![allow(clippy::needless_range_loop)]

mod activation;
mod activations;
mod arch;
mod bits;
mod error;
#[cfg(feature = "shaders")]
pub mod gpu;
mod layout;
mod matmul;
mod matrix;
mod memory;
pub mod ops;
pub mod pack;
mod peak;
pub mod reference;
mod rows;
#[cfg(test)]
mod samples;
mod threads;

pub use activation::Activation;
pub use activations::Activations;
pub use arch::Isa;
pub use bits::Width;
pub use error::{IsaError, MatrixError, PackError, PoolError};
pub use layout::Layout;
pub use matmul::{Arithmetic, Epilogue, matmul, matmul_accumulators, matmul_to_half};
pub use matrix::{Matrix, MatrixBuilder};
pub use memory::AlignedVec;
pub use peak::Peak;
pub use rows::{Patches, Rows};
pub use threads::Pool;
