//! Loops for x86-64.
//!
//! `.irp` repeats a line for each register of a list. Everything that the loops write is named by `clobber_abi`.

use std::arch::asm;

use super::{Loop, amx};
use crate::{Arithmetic, Isa};

/// The loop of an instruction set's kernels of that arithmetic.
pub(super) fn find(isa: Isa, arithmetic: Arithmetic) -> Option<Loop> {
    Some(match (isa, arithmetic) {
        (Isa::Scalar, Arithmetic::F32) => MULPS,
        (Isa::Scalar, Arithmetic::Int8) => PMADDWD,
        (Isa::Avx2 | Isa::AvxVnni, Arithmetic::F32) => FMA_256,
        (Isa::Avx2, Arithmetic::Int8) => MADDUBS,
        (Isa::AvxVnni, Arithmetic::Int8) => VNNI_256,
        (Isa::Avx512Vnni | Isa::Amx, Arithmetic::F32) => FMA_512,
        (Isa::Avx512Vnni, Arithmetic::Int8) => VNNI_512,
        (Isa::Amx, Arithmetic::Int8) => amx::INT8,
        (Isa::Amx, Arithmetic::Half) => amx::HALF,
        _ => return None,
    })
}

/// An operand of float loops: a full mantissa, and sums that stay finite.
const FACTOR: f32 = 0.7;
/// An operand of integer loops: four bytes of 1 to 3, whatever their signedness.
const BYTES: u32 = 0x0201_0302;

const MULPS: Loop = Loop { instruction: "mulps + addps xmm", operations: 14 * 4 * 2, body: mulps };

/// Fourteen sums `s = s * 0.7 + 0.7`, which the baseline has no fused instruction for.
unsafe fn mulps(repetitions: u64) {
    // SAFETY: every x86-64 processor has SSE2; only the registers named are written.
    unsafe {
        asm!(
            "movss xmm15, {factor}",
            "shufps xmm15, xmm15, 0",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13",
            "movaps xmm\\r, xmm15",
            ".endr",
            "2:",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13",
            "mulps xmm\\r, xmm15",
            "addps xmm\\r, xmm15",
            ".endr",
            "dec rcx",
            "jnz 2b",
            factor = in(xmm_reg) FACTOR,
            inout("rcx") repetitions => _,
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

const PMADDWD: Loop =
    Loop { instruction: "pmaddwd + paddd xmm", operations: 12 * 8 * 2, body: pmaddwd };

/// Twelve sums of products of 16-bit halves; `pmaddwd` overwrites an operand, so that a copy goes first.
unsafe fn pmaddwd(repetitions: u64) {
    // SAFETY: every x86-64 processor has SSE2; only the registers named are written.
    unsafe {
        asm!(
            "movd xmm15, {bytes:e}",
            "pshufd xmm15, xmm15, 0",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11",
            "pxor xmm\\r, xmm\\r",
            ".endr",
            "2:",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11",
            "movdqa xmm14, xmm15",
            "pmaddwd xmm14, xmm15",
            "paddd xmm\\r, xmm14",
            ".endr",
            "dec rcx",
            "jnz 2b",
            bytes = in(reg) BYTES,
            inout("rcx") repetitions => _,
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

const FMA_256: Loop =
    Loop { instruction: "vfmadd231ps ymm", operations: 14 * 8 * 2, body: fma_256 };

/// Fourteen sums in 256-bit registers.
#[target_feature(enable = "avx2,fma")]
unsafe fn fma_256(repetitions: u64) {
    // SAFETY: the caller vouches for AVX2 and FMA; only the registers named are written.
    unsafe {
        asm!(
            "vbroadcastss ymm15, {factor}",
            "vmovaps ymm14, ymm15",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13",
            "vxorps xmm\\r, xmm\\r, xmm\\r",
            ".endr",
            "2:",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13",
            "vfmadd231ps ymm\\r, ymm14, ymm15",
            ".endr",
            "dec rcx",
            "jnz 2b",
            "vzeroupper",
            factor = in(xmm_reg) FACTOR,
            inout("rcx") repetitions => _,
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

const MADDUBS: Loop =
    Loop { instruction: "vpmaddubsw + vpaddw ymm", operations: 40 * 6 * 32 * 2, body: maddubs };

/// Six sums of 16 bits, widened to 32 bits after every 40 products: about as seldom as the kernel does at 2 bit.
#[target_feature(enable = "avx2")]
unsafe fn maddubs(repetitions: u64) {
    // SAFETY: the caller vouches for AVX2; only the registers named are written.
    unsafe {
        asm!(
            "vmovd xmm15, {bytes:e}",
            "vpbroadcastd ymm15, xmm15",
            "vpcmpeqw ymm14, ymm14, ymm14",
            "vpsrlw ymm14, ymm14, 15",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11",
            "vpxor xmm\\r, xmm\\r, xmm\\r",
            ".endr",
            "2:",
            ".rept 40",
            ".irp r,0,1,2,3,4,5",
            "vpmaddubsw ymm13, ymm15, ymm15",
            "vpaddw ymm\\r, ymm\\r, ymm13",
            ".endr",
            ".endr",
            ".irp r,0,1,2,3,4,5",
            "vpmaddwd ymm13, ymm\\r, ymm14",
            "vpxor xmm\\r, xmm\\r, xmm\\r",
            "vpaddd ymm6, ymm6, ymm13",
            ".endr",
            "dec rcx",
            "jnz 2b",
            "vzeroupper",
            bytes = in(reg) BYTES,
            inout("rcx") repetitions => _,
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

const VNNI_256: Loop =
    Loop { instruction: "vpdpbusd ymm", operations: 14 * 32 * 2, body: vnni_256 };

/// Fourteen sums in 256-bit registers, in the encoding of AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn vnni_256(repetitions: u64) {
    // SAFETY: the caller vouches for AVX2 and AVX-VNNI; only the registers named are written.
    unsafe {
        asm!(
            "vmovd xmm15, {bytes:e}",
            "vpbroadcastd ymm15, xmm15",
            "vmovdqa ymm14, ymm15",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13",
            "vpxor xmm\\r, xmm\\r, xmm\\r",
            ".endr",
            "2:",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13",
            "{{vex}} vpdpbusd ymm\\r, ymm14, ymm15",
            ".endr",
            "dec rcx",
            "jnz 2b",
            "vzeroupper",
            bytes = in(reg) BYTES,
            inout("rcx") repetitions => _,
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

const FMA_512: Loop =
    Loop { instruction: "vfmadd231ps zmm", operations: 24 * 16 * 2, body: fma_512 };

/// Twenty-four sums in 512-bit registers.
#[target_feature(enable = "avx512f")]
unsafe fn fma_512(repetitions: u64) {
    // SAFETY: the caller vouches for AVX-512 F; only the registers named are written.
    unsafe {
        asm!(
            "vbroadcastss zmm31, {factor}",
            "vmovaps zmm30, zmm31",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            "vpxord zmm\\r, zmm\\r, zmm\\r",
            ".endr",
            "2:",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            "vfmadd231ps zmm\\r, zmm30, zmm31",
            ".endr",
            "dec rcx",
            "jnz 2b",
            "vzeroupper",
            factor = in(xmm_reg) FACTOR,
            inout("rcx") repetitions => _,
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}

const VNNI_512: Loop =
    Loop { instruction: "vpdpbusd zmm", operations: 24 * 64 * 2, body: vnni_512 };

/// Twenty-four sums in 512-bit registers.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn vnni_512(repetitions: u64) {
    // SAFETY: the caller vouches for AVX-512 F and VNNI; only the registers named are written.
    unsafe {
        asm!(
            "vpbroadcastd zmm31, {bytes:e}",
            "vmovdqa64 zmm30, zmm31",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            "vpxord zmm\\r, zmm\\r, zmm\\r",
            ".endr",
            "2:",
            ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            "vpdpbusd zmm\\r, zmm30, zmm31",
            ".endr",
            "dec rcx",
            "jnz 2b",
            "vzeroupper",
            bytes = in(reg) BYTES,
            inout("rcx") repetitions => _,
            clobber_abi("sysv64"),
            options(nomem, nostack),
        );
    }
}
