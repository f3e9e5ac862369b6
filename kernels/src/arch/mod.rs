//! Instruction sets: detection, and one thin layer of micro-kernels per set.
//!
//! Everything above this module is safe, generic code over [`Simd`], a token that only detection can make. A token gives
//! two things:
//! - micro-kernels ([`Simd::f32_tile`], [`Simd::int8_tile`]), written with intrinsics;
//! - [`Simd::vectorize`], which runs generic code (a [`Vectorized`] task, every function on its way `#[inline(always)]`)
//!   inside a function compiled for that instruction set, so that the compiler vectorises the same source for each.
//!
//! This module and its children are the only `unsafe` code of the crate.
#![allow(unsafe_code)]

pub(crate) mod peak;
mod scalar;
#[cfg(test)]
mod tests;
pub(crate) mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::ffi::OsStr;
use std::str::FromStr;

use crate::{IsaError, Width};
pub(crate) use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Avx2, Avx512Vnni};

/// An instruction set that this crate has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Portable code, compiled for the baseline of the target.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512Vnni];

    /// The environment variable read by [`Isa::from_env`].
    pub const VARIABLE: &'static str = "FRESNEL_ISA";

    /// The name used by `FRESNEL_ISA` and in kernel names: `"scalar"`, `"avx2"` or `"avx512vnni"`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512Vnni => "avx512vnni",
        }
    }

    /// Whether this machine has the instructions.
    pub fn is_available(self) -> bool {
        self.token().is_some()
    }

    /// Those that this machine has, slowest first; never empty.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The fastest that this machine has.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// The one that the environment variable `FRESNEL_ISA` names, or [`Isa::best`] where it is unset or empty.
    ///
    /// # Errors
    /// When the variable names no instruction set, or one that this machine lacks.
    pub fn from_env() -> Result<Isa, IsaError> {
        Isa::from_setting(std::env::var_os(Isa::VARIABLE).as_deref())
    }

    /// [`Isa::from_env`] for a given value of the variable.
    fn from_setting(value: Option<&OsStr>) -> Result<Isa, IsaError> {
        match value {
            Some(name) if !name.is_empty() => {
                let isa: Isa = name.to_string_lossy().parse()?;
                isa.require().map(|_| isa)
            }
            _ => Ok(Isa::best()),
        }
    }

    /// The token which proves that the instructions are there.
    pub(crate) fn token(self) -> Option<Token> {
        match self {
            Isa::Scalar => Some(Token::Scalar(Scalar)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map(Token::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Avx512Vnni::detect().map(Token::Avx512Vnni),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512Vnni => None,
        }
    }

    /// The token, or the error which says that this machine lacks the instructions.
    pub(crate) fn require(self) -> Result<Token, IsaError> {
        self.token().ok_or_else(|| IsaError::Unavailable { isa: self, available: Isa::available() })
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Isa, IsaError> {
        Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| IsaError::Unknown { name: name.to_owned() })
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A detected instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
}

/// Evaluates an expression with `$simd` bound to the [`Simd`] value inside a [`Token`].
macro_rules! dispatch {
    ($token:expr, $simd:ident => $body:expr) => {
        match $token {
            $crate::arch::Token::Scalar($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::arch::Token::Avx2($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::arch::Token::Avx512Vnni($simd) => $body,
        }
    };
}
pub(crate) use dispatch;

impl Token {
    pub(crate) fn isa(self) -> Isa {
        fn isa<S: Simd>(_: S) -> Isa {
            S::ISA
        }
        dispatch!(self, simd => isa(simd))
    }
}

/// Generic code to be compiled for each instruction set.
pub(crate) trait Vectorized {
    /// What the task returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, and so is all they call.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set known to be available: a token that only detection makes.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Which one.
    const ISA: Isa;
    /// Whether a fused multiply-add is one instruction.
    const FUSED: bool;
    /// Columns of a tile, and lanes of a panel: 8, 16 or 32.
    const LANES: usize;
    /// Most rows of a float tile.
    const F32_ROWS: usize;
    /// Most rows of an integer tile.
    const INT8_ROWS: usize;

    /// Whether the integer tile wants codes of this width as 16-bit halves rather than bytes.
    fn wants_halves(width: Width) -> bool;

    /// Runs a task in a function compiled for this instruction set.
    fn vectorize<T: Vectorized>(self, task: T) -> T::Output;

    /// [`panel::expand_f32`](crate::pack::panel::expand_f32) for the lanes of this instruction set.
    fn expand_f32(self, width: Width, words: &[u32], out: &mut [f32]);

    /// [`panel::expand_bytes`](crate::pack::panel::expand_bytes), or
    /// [`panel::expand_halves`](crate::pack::panel::expand_halves) where `wants_halves(width)`.
    fn expand_int8(self, width: Width, words: &[u32], out: &mut [u32]);

    /// `sums[r][n] (+)= sum_k left[k][r] * right[k][n]` for `rows` (1 to `F32_ROWS`) rows and `LANES` columns.
    ///
    /// `left` is `[depth][rows]`, `right` `[depth][LANES]`, `sums` `[rows][LANES]`; `start` overwrites `sums`. The terms of
    /// each sum are added one after another in the order of `k`, so that a sum does not depend on the rows beside it.
    fn f32_tile(self, rows: usize, left: &[f32], right: &[f32], sums: &mut [f32], start: bool);

    /// `sums[r][n] (+)= sum_k left[k][r] * right[k][n]` over four input features to a word: signed bytes on the left,
    /// unsigned codes on the right, or both as 16-bit halves where `wants_halves(width)`.
    ///
    /// `left` is `[words][rows]`, `right` `[words][LANES]`, `sums` `[rows][LANES]`; `start` overwrites `sums`. Exact modulo
    /// 2^32 for codes below `width.levels()`.
    fn int8_tile(
        self,
        rows: usize,
        width: Width,
        left: &[u32],
        right: &[u32],
        sums: &mut [i32],
        start: bool,
    );
}

/// Calls a function generic over the number of rows with `$rows` as a constant.
macro_rules! with_rows {
    ($rows:expr, [$($count:literal)+], $function:ident $arguments:tt) => {
        match $rows {
            $($count => $function::<$count> $arguments,)+
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(crate) use with_rows;
