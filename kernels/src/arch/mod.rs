//! Instruction sets: detection, and one thin layer of micro-kernels per set.
//!
//! Everything above this module is safe, generic code over [`Simd`], a token that only detection can make. A token gives
//! two things:
//! - micro-kernels ([`Simd::f32_tile`], [`Simd::int8_tile`]), written with intrinsics;
//! - [`Simd::vectorize`], which runs generic code (a [`Vectorized`] task, every function on its way `#[inline(always)]`)
//!   inside a function compiled for that instruction set, so that the compiler vectorises the same source for each.
//!
//! Apart from how threads share a region of work, and from GPUs, this module and its children are the only `unsafe` code
//! of the crate.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod dequantize;
mod operands;
pub(crate) mod peak;
mod scalar;
mod simd;
#[cfg(test)]
mod tests;
pub(crate) mod tiles;
mod witness;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::ffi::OsStr;
use std::str::FromStr;

use crate::{Arithmetic, IsaError};
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{Dotprod, I8mm, Neon};
pub(crate) use dequantize::{ChannelTerms, RowTerms};
pub(crate) use operands::{LeftBlock, RightBlock};
pub(crate) use scalar::Scalar;
pub(crate) use simd::{Between, Simd, Vectorized, one_at_a_time};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Amx, Avx2, Avx512Vnni, AvxVnni};

/// An instruction set that this crate has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Portable code, compiled for the baseline of the target.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI, the integer dot product of 256 bits.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// The same with AMX: tiles of 16 x 16 sums, of bytes (AMX-INT8) and of bfloat16 (AMX-BF16).
    Amx,
    /// 64-bit ARM: NEON, which all of them have.
    Neon,
    /// The same with the dot product of four bytes (FEAT_DotProd).
    Dotprod,
    /// The same with the matrix product of bytes (FEAT_I8MM).
    I8mm,
}

impl Isa {
    /// Every instruction set; those of one architecture slowest first.
    pub const ALL: [Isa; 8] = [
        Isa::Scalar,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Vnni,
        Isa::Amx,
        Isa::Neon,
        Isa::Dotprod,
        Isa::I8mm,
    ];

    /// The environment variable read by [`Isa::from_env`].
    pub const VARIABLE: &'static str = "FRESNEL_ISA";

    /// The name used by `FRESNEL_ISA` and in kernel names: `"scalar"`, `"avx2"`, `"avxvnni"`, `"avx512vnni"`, `"amx"`, `"neon"`,
    /// `"dotprod"` or `"i8mm"`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::Dotprod => "dotprod",
            Isa::I8mm => "i8mm",
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

    /// Whether this machine has the instructions, and they multiply in `arithmetic`: see
    /// [`Matrix::supports`](crate::Matrix::supports) for what it takes of a matrix.
    pub fn supports(self, arithmetic: Arithmetic) -> bool {
        fn half_rows<S: Simd>(_: S) -> usize {
            S::HALF_ROWS
        }
        self.token().is_some_and(|token| {
            arithmetic != Arithmetic::Half || dispatch!(token, simd => half_rows(simd)) > 0
        })
    }

    /// The token which proves that the instructions are there.
    pub(crate) fn token(self) -> Option<Token> {
        match self {
            Isa::Scalar => Some(Token::Scalar(Scalar)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map(Token::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => AvxVnni::detect().map(Token::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Avx512Vnni::detect().map(Token::Avx512Vnni),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Amx::detect().map(Token::Amx),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Amx => None,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::detect().map(Token::Neon),
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => Dotprod::detect().map(Token::Dotprod),
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => I8mm::detect().map(Token::I8mm),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon | Isa::Dotprod | Isa::I8mm => None,
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
    AvxVnni(AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    Dotprod(Dotprod),
    #[cfg(target_arch = "aarch64")]
    I8mm(I8mm),
}

/// Evaluates an expression with `$simd` bound to the [`Simd`] value inside a [`Token`].
macro_rules! dispatch {
    ($token:expr, $simd:ident => $body:expr) => {
        match $token {
            $crate::arch::Token::Scalar($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::arch::Token::Avx2($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::arch::Token::AvxVnni($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::arch::Token::Avx512Vnni($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::arch::Token::Amx($simd) => $body,
            #[cfg(target_arch = "aarch64")]
            $crate::arch::Token::Neon($simd) => $body,
            #[cfg(target_arch = "aarch64")]
            $crate::arch::Token::Dotprod($simd) => $body,
            #[cfg(target_arch = "aarch64")]
            $crate::arch::Token::I8mm($simd) => $body,
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
