use half::f16;

use super::{AttentionShape, math};
use crate::arch::{Simd, Vectorized, dispatch};
use crate::samples::{Samples, in_blocks};
use crate::{Activation, Isa, Layout, Pool, ops, reference};

/// A pool of one and of three threads for every instruction set.
fn pools() -> Vec<Pool> {
    Isa::available()
        .into_iter()
        .flat_map(|isa| [1, 3].map(|threads| Pool::with_isa(threads, isa).unwrap()))
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn assert_near(name: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (index, (&found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(found) - expected).abs() <= tolerance,
            "{name}: element {index} is {found} instead of {expected}"
        );
    }
}

/// Numbers from -100 to 100, dense about zero.
fn arguments() -> Vec<f32> {
    (-40_000..=40_000_i32)
        .map(|step| {
            let x = step as f32 / 40_000.0;
            100.0 * x * x * x
        })
        .collect()
}

struct Exp<'a>(&'a mut [f32]);

impl Vectorized for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for value in self.0 {
            *value = math::exp::<S>(*value);
        }
    }
}

struct Erf<'a>(&'a mut [f32]);

impl Vectorized for Erf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for value in self.0 {
            *value = math::erf::<S>(*value);
        }
    }
}

#[test]
fn exp_and_erf_keep_their_documented_errors() {
    for isa in Isa::available() {
        let token = isa.require().unwrap();
        let x = arguments();
        let mut exp = x.clone();
        dispatch!(token, simd => simd.vectorize(Exp(&mut exp)));
        let mut erf = x.clone();
        dispatch!(token, simd => simd.vectorize(Erf(&mut erf)));
        for ((&x, exp), erf) in x.iter().zip(exp).zip(erf) {
            let error = (f64::from(erf) - reference::erf(f64::from(x))).abs();
            assert!(error < 4e-7, "{isa}: erf({x}) is off by {error:.1e}");
            if x < -87.0 {
                assert_eq!(exp, 0.0);
            } else if x < 88.0 {
                let expected = f64::from(x).exp();
                let error = (f64::from(exp) - expected).abs() / expected;
                assert!(error < 2e-7, "{isa}: exp({x}) is off by {error:.1e}");
            }
        }
        let mut special = [f32::NAN, f32::NEG_INFINITY, 0.0, -0.0];
        dispatch!(token, simd => simd.vectorize(Exp(&mut special)));
        assert!(special[0].is_nan());
        assert_eq!(special[1..], [0.0, 1.0, 1.0]);
    }
}

#[test]
fn activations_agree_with_the_oracle() {
    for pool in pools() {
        for (activation, tolerance) in [
            (Activation::GeluErf, 3e-7),
            (Activation::GeluTanh, 4e-7),
            (Activation::QuickGelu, 4e-7),
        ] {
            let x = arguments();
            let mut found = x.clone();
            ops::gelu(&pool, activation, &mut found);
            for (&x, &found) in x.iter().zip(&found) {
                let expected = reference::activation(activation, f64::from(x));
                let error = (f64::from(found) - expected).abs() / f64::from(x.abs().max(1.0));
                assert!(
                    error < tolerance,
                    "{activation:?} on {}: {found} instead of {expected} at {x}, error {error:.1e}",
                    pool.isa()
                );
            }
            let mut nan = [f32::NAN; 3];
            ops::gelu(&pool, activation, &mut nan);
            assert!(nan.iter().all(|value| value.is_nan()));
        }
    }
}

#[test]
fn layer_norm_agrees_with_the_oracle_and_over_instruction_sets() {
    for (rows, dim) in [(1, 1), (2, 7), (5, 16), (40, 33), (3, 768)] {
        let mut samples = Samples::new(dim as u64);
        let mut x = samples.floats(rows * dim, 3.0);
        x.iter_mut().for_each(|value| *value += 2.0);
        let (gamma, beta) = (samples.floats(dim, 2.0), samples.floats(dim, 1.0));
        let (wide_gamma, wide_beta) = (wide(&gamma), wide(&beta));
        let expected: Vec<f64> = wide(&x)
            .chunks(dim)
            .flat_map(|row| reference::layer_norm(row, &wide_gamma, &wide_beta, 1e-6))
            .collect();
        let mut first: Option<Vec<f32>> = None;
        for pool in pools() {
            let mut out = vec![f32::NAN; x.len()];
            ops::layer_norm(&pool, &x, &gamma, &beta, 1e-6, &mut out);
            assert_near("layer norm", &out, &expected, 3e-6);
            assert_eq!(first.get_or_insert_with(|| out.clone()), &out);
        }
    }
}

#[test]
fn softmax_agrees_with_the_oracle() {
    for (rows, cols) in [(1, 1), (2, 5), (3, 16), (20, 197)] {
        let mut samples = Samples::new(cols as u64);
        let x = samples.floats(rows * cols, 20.0);
        let expected: Vec<f64> = wide(&x).chunks(cols).flat_map(reference::softmax).collect();
        for pool in pools() {
            let mut found = x.clone();
            ops::softmax_rows(&pool, &mut found, rows, cols);
            assert_near("softmax", &found, &expected, 3e-7);
        }
    }
}

#[test]
fn attention_agrees_with_the_oracle_on_any_number_of_threads() {
    for (batch, tokens, heads, dim) in
        [(1, 1, 1, 1), (1, 2, 3, 5), (2, 9, 2, 16), (1, 33, 2, 64), (2, 50, 1, 20), (1, 197, 1, 64)]
    {
        let width = heads * dim;
        let qkv = Samples::new(tokens as u64).floats(batch * tokens * 3 * width, 2.0);
        let half_qkv: Vec<f16> = qkv.iter().map(|&value| f16::from_f32(value)).collect();
        let wide_qkv = wide(&qkv);
        let mut expected = vec![0.0; batch * tokens * width];
        for image in 0..batch {
            for head in 0..heads {
                let part = |which: usize| -> Vec<f64> {
                    (0..tokens)
                        .flat_map(|token| {
                            let row = (image * tokens + token) * 3 * width;
                            &wide_qkv[row + which * width + head * dim..][..dim]
                        })
                        .copied()
                        .collect()
                };
                let out = reference::attention(&part(0), &part(1), &part(2), dim);
                for (token, out) in out.chunks(dim).enumerate() {
                    let start = (image * tokens + token) * width + head * dim;
                    expected[start..start + dim].copy_from_slice(out);
                }
            }
        }
        let mut first: Option<Vec<f32>> = None;
        let mut integers: Option<Vec<f16>> = None;
        let shape = AttentionShape { batch, tokens, heads, head_dim: dim, layout: Layout::Rows };
        for isa in Isa::available() {
            for threads in [1, 2, 3] {
                let pool = Pool::with_isa(threads, isa).unwrap();
                let mut out = vec![f32::NAN; expected.len()];
                ops::attention(&pool, &shape, &qkv, &mut out);
                assert_near(isa.name(), &out, &expected, 2e-6);
                assert_eq!(first.get_or_insert_with(|| out.clone()), &out);

                let mut integer = vec![f16::NAN; expected.len()];
                ops::integer_attention(&pool, &shape, &half_qkv, &mut integer);
                let out: Vec<f32> = integer.iter().map(|value| value.to_f32()).collect();
                // Steps of 2 / 127 for every number, and of 1 / 255 for the probabilities.
                assert_near(isa.name(), &out, &expected, 0.08);
                let squares: f64 =
                    out.iter().zip(&expected).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum();
                let mean = (squares / expected.len() as f64).sqrt();
                assert!(mean < 0.02, "{isa}: {mean}");
                assert_eq!(integers.get_or_insert_with(|| integer.clone()), &integer, "{isa}");
            }
        }
    }
}

/// Heads of a whole block, of half and of a quarter of one, for several images.
#[test]
fn attention_in_blocks_is_that_in_rows() {
    for (heads, head_dim) in [(3, 64), (4, 32), (4, 16)] {
        let (batch, tokens, width) = (2, 21, heads * head_dim);
        assert_eq!(AttentionShape::layout_of(heads, head_dim), Layout::Blocks);
        let qkv = Samples::new(5).floats(batch * tokens * 3 * width, 2.0);
        let half_qkv: Vec<f16> = qkv.iter().map(|&value| f16::from_f32(value)).collect();
        for isa in Isa::available() {
            let pool = Pool::with_isa(2, isa).unwrap();
            let attend = |layout, qkv: &[f32], half_qkv: &[f16]| {
                let shape = AttentionShape { batch, tokens, heads, head_dim, layout };
                let mut out = vec![f32::NAN; batch * tokens * width];
                ops::attention(&pool, &shape, qkv, &mut out);
                let mut integer = vec![f16::NAN; batch * tokens * width];
                ops::integer_attention(&pool, &shape, half_qkv, &mut integer);
                (out, integer)
            };
            let rows = attend(Layout::Rows, &qkv, &half_qkv);
            let blocks = attend(
                Layout::Blocks,
                &in_blocks(&qkv, 3 * width),
                &in_blocks(&half_qkv, 3 * width),
            );
            assert_eq!(in_blocks(&rows.0, width), blocks.0, "{isa}, {heads} of {head_dim}");
            assert_eq!(in_blocks(&rows.1, width), blocks.1, "{isa}, {heads} of {head_dim}");
        }
    }
}

#[test]
#[should_panic(expected = "blocks are not made of whole heads")]
fn heads_across_blocks_are_refused() {
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    let layout = Layout::Blocks;
    let shape = AttentionShape { batch: 1, tokens: 1, heads: 4, head_dim: 48, layout };
    ops::attention(&pool, &shape, &[0.0; 3 * 192], &mut [0.0; 192]);
}

#[test]
fn numbers_that_are_not_finite_show_in_integer_attention() {
    let (tokens, dim) = (5, 8);
    for isa in Isa::available() {
        let pool = Pool::with_isa(1, isa).unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            // A query spoils its row, a key everything, a value its feature.
            for (place, spoiled) in [(1, dim), (dim + 1, tokens * dim), (2 * dim + 1, tokens)] {
                let mut qkv = Samples::new(3).floats(tokens * 3 * dim, 1.0);
                qkv[3 * dim + place] = value;
                let qkv: Vec<f16> = qkv.into_iter().map(f16::from_f32).collect();
                let mut out = vec![f16::ZERO; tokens * dim];
                let layout = Layout::Rows;
                let shape = AttentionShape { batch: 1, tokens, heads: 1, head_dim: dim, layout };
                ops::integer_attention(&pool, &shape, &qkv, &mut out);
                let found = out.iter().filter(|value| value.is_nan()).count();
                assert_eq!(found, spoiled, "{isa}, {value} at {place}");
            }
        }
    }
}

#[test]
fn nothing_is_no_work() {
    let pool = Pool::with_isa(1, Isa::best()).unwrap();
    ops::layer_norm(&pool, &[], &[], &[], 1e-6, &mut []);
    ops::softmax_rows(&pool, &mut [], 0, 4);
    let layout = Layout::Rows;
    let shape = AttentionShape { batch: 0, tokens: 5, heads: 2, head_dim: 8, layout };
    ops::attention(&pool, &shape, &[], &mut []);
    ops::gelu(&pool, Activation::GeluErf, &mut []);
}
