//! The operations between the matrix products of a block.

use fresnel_kernels::ops::AttentionShape;
use fresnel_kernels::{Activation, Activations, Arithmetic, Layout, Pool, Rows, ops};
use half::f16;
use serde_json::json;

use super::products::arithmetic_name;
use super::statistics::{Samples, milliseconds, noise};
use crate::cli::{Failure, Output};

/// Sizes of a transformer block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Width of a token.
    pub(super) dim: usize,
    /// Heads of the attention.
    pub(super) heads: usize,
    /// Width of the hidden layer.
    pub(super) hidden: usize,
}

/// The block of DeiT-B.
pub(super) const DEIT_B: Block = Block { dim: 768, heads: 12, hidden: 3072 };

/// One operation on its input.
struct Operation<'a> {
    name: String,
    /// Elements that it reads.
    elements: usize,
    /// Runs it once and returns the milliseconds it took.
    work: Box<dyn FnMut() -> f64 + 'a>,
    milliseconds: Samples,
}

/// Times each operation on the tokens of one image, in turns, and writes a line for each.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn bench(
    output: &Output,
    pool: &Pool,
    block: &Block,
    m: usize,
    iterations: usize,
) -> Result<(), Failure> {
    let &Block { dim, heads, hidden } = block;
    let head_dim = dim / heads;
    let numbers = |count: usize| noise().take(count).collect::<Vec<f32>>();
    let (narrow, wide, qkv) = (numbers(m * dim), numbers(m * hidden), numbers(3 * m * dim));
    let half = |values: &[f32]| values.iter().map(|&value| f16::from_f32(value)).collect();
    let [half_narrow, half_wide, half_qkv]: [Vec<f16>; 3] =
        [half(&narrow), half(&wide), half(&qkv)];
    let (narrow_layout, wide_layout) = (Layout::of(dim), Layout::of(hidden));
    let (gamma, beta) = (vec![1.0; dim], vec![0.0; dim]);
    let layout = AttentionShape::layout_of(heads, head_dim);
    let shape = AttentionShape { batch: 1, tokens: m, heads, head_dim, layout };
    let mut attended_integer = vec![f16::ZERO; m * dim];
    let [mut attended, mut normed] = [(); 2].map(|()| vec![0.0; m * dim]);
    let normalized = Rows::Normalized {
        x: &narrow,
        gamma: &gamma,
        beta: &beta,
        eps: 1e-6,
        layout: narrow_layout,
    };
    let mut scores = numbers(heads * m * m);
    let mut activated = Activation::ALL.map(|activation| (activation, wide.clone()));
    let attended_rows = Rows::Half { values: &half_narrow, columns: dim, layout };
    let hidden_rows = Rows::Half { values: &half_wide, columns: hidden, layout: wide_layout };

    let mut operations = vec![
        Operation::new(format!("attention, {heads} heads of {head_dim}"), qkv.len(), || {
            ops::attention(pool, &shape, &qkv, &mut attended);
        }),
        Operation::new(
            format!("integer attention, {heads} heads of {head_dim}"),
            qkv.len(),
            || {
                ops::integer_attention(pool, &shape, &half_qkv, &mut attended_integer);
            },
        ),
        Operation::new(format!("softmax, {heads} x {m} rows of {m}"), scores.len(), || {
            ops::softmax_rows(pool, &mut scores, heads * m, m);
        }),
        Operation::new(format!("layer norm, {dim}"), narrow.len(), || {
            ops::layer_norm(pool, &narrow, &gamma, &beta, 1e-6, &mut normed);
        }),
    ];
    // What makes the left operand of a product: rows normalised or not, quantised in integer arithmetic, and packed.
    let inputs = [
        (format!("norm and pack, {dim}"), narrow.len(), normalized),
        (format!("pack, {dim}"), narrow.len(), attended_rows),
        (format!("pack, {hidden}"), wide.len(), hidden_rows),
    ];
    for arithmetic in Arithmetic::ALL.into_iter().filter(|&one| pool.isa().supports(one)) {
        for &(ref name, elements, rows) in &inputs {
            let name = format!("{name}, {}", arithmetic_name(arithmetic));
            let mut packed = Activations::new();
            let work = move || packed.pack(pool, arithmetic, &rows);
            operations.push(Operation::new(name, elements, work));
        }
    }
    for (activation, x) in &mut activated {
        operations.push(Operation {
            name: format!("{activation:?}, {hidden}"),
            elements: wide.len(),
            // Of the same numbers each time: its own results would shrink to subnormal ones.
            work: Box::new(|| {
                x.copy_from_slice(&wide);
                milliseconds(|| ops::gelu(pool, *activation, x)).0
            }),
            milliseconds: Samples::default(),
        });
    }
    for round in 0..=iterations {
        for operation in &mut operations {
            let milliseconds = (operation.work)();
            if round > 0 {
                operation.milliseconds.push(milliseconds);
            }
        }
    }
    if !output.json() {
        output.line(format_args!(
            "{:>38} {:>9} {:>9} {:>9}",
            "operation", "ms", "least ms", "G elem/s"
        ))?;
    }
    for operation in &operations {
        let (median, least) = (operation.milliseconds.median(), operation.milliseconds.least());
        let rate = operation.elements as f64 / median * 1e-6;
        if output.json() {
            output.line(json!({
                "kind": "operation",
                "isa": pool.isa().name(),
                "operation": operation.name,
                "threads": pool.threads(),
                "elements": operation.elements,
                "runs": operation.milliseconds.count(),
                "median_ms": median,
                "min_ms": least,
                "giga_elements_per_second": rate,
            }))?;
        } else {
            let name = &operation.name;
            output.line(format_args!("{name:>38} {median:9.3} {least:9.3} {rate:9.2}"))?;
        }
    }
    Ok(())
}

impl<'a> Operation<'a> {
    fn new(name: String, elements: usize, mut work: impl FnMut() + 'a) -> Operation<'a> {
        let work = Box::new(move || milliseconds(&mut work).0);
        Operation { name, elements, work, milliseconds: Samples::default() }
    }
}
