//! Matrix products of every width and arithmetic beside the peak rate of their instruction.
//!
//! A kernel's run comes right after a short run of the loop that measures its instruction's peak rate, on the same threads.
//! The share of the peak is the ratio of these two, so that other load on the machine hits both alike; the median over the
//! rounds is reported. What surrounds the products (quantisation, attention, ...) has lines of its own.

use clap::Args;
use fresnel_kernels::{Isa, Pool};

use super::products::{Products, Shape};
use super::{BenchArgs, operations};
use crate::cli::{Exit, Failure, Output, Progress};
use crate::exec::Sizes;
use crate::model::Model;

/// Most elements of a matrix, so that a slip of the keyboard does not take the machine's memory.
const MAX_ELEMENTS: usize = 1 << 28;

/// What `--kernels` measures.
#[derive(Args, Debug)]
pub(crate) struct KernelArgs {
    /// Measure the kernels themselves, beside the peak rate of their instructions
    #[arg(long, conflicts_with_all = ["profile", "compute", "batch"])]
    pub(super) kernels: bool,
    /// Rows of activations (the model's tokens, or 197)
    #[arg(long, value_name = "M", requires = "kernels")]
    rows: Option<usize>,
    /// Input and output features of a product, such as 768x2304; may be repeated
    #[arg(long, value_name = "KxN", requires = "kernels", value_parser = parse_shape)]
    shape: Vec<Shape>,
}

fn parse_shape(text: &str) -> Result<Shape, String> {
    let sizes = text.split_once('x').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    match sizes {
        Some((k @ 1.., n @ 1..)) => Ok(Shape { k, n }),
        _ => Err("expected input and output features as KxN, such as 768x2304".to_owned()),
    }
}

/// The products to measure, and the sizes of the operations between them.
struct Subject {
    m: usize,
    shapes: Vec<Shape>,
    /// `None` where shapes were given one by one, to which no other operations belong.
    block: Option<operations::Block>,
}

impl Subject {
    fn new(args: &BenchArgs) -> Result<Subject, Failure> {
        let given = &args.kernels;
        let (mut m, mut shapes, block) = match args.models.as_slice() {
            [] => (197, DEIT_B.to_vec(), operations::DEIT_B),
            [file] => {
                let model = Model::open(file)?;
                let sizes = Sizes::new(model.config());
                let block =
                    operations::Block { dim: sizes.dim, heads: sizes.heads, hidden: sizes.hidden };
                (sizes.tokens(), block_shapes(&model), block)
            }
            _ => return Err(Failure::usage("--kernels takes the shapes of one model at most")),
        };
        m = given.rows.unwrap_or(m);
        let mut block = Some(block);
        if !given.shape.is_empty() {
            shapes.clone_from(&given.shape);
            block = None;
        }
        let subject = Subject { m, shapes, block };
        if m == 0 || subject.largest_matrix().is_none_or(|elements| elements > MAX_ELEMENTS) {
            return Err(Failure::usage(format!(
                "--rows and --shape must be at least 1, and no matrix above {MAX_ELEMENTS} elements"
            )));
        }
        Ok(subject)
    }

    /// Elements of the largest matrix; `None` on overflow.
    fn largest_matrix(&self) -> Option<usize> {
        let m = self.m;
        let products = self.shapes.iter().flat_map(|&Shape { k, n }| [(k, n), (m, k), (m, n)]);
        // Queries, keys and values; the hidden layer; the scores of all heads.
        let operations = self.block.iter().flat_map(|block| {
            [(m, 3 * block.dim), (m, block.hidden), (m.saturating_mul(block.heads), m)]
        });
        products.chain(operations).try_fold(0, |largest: usize, (rows, columns)| {
            Some(largest.max(rows.checked_mul(columns)?))
        })
    }
}

/// qkv, projection, fc1 and fc2 of DeiT-B.
const DEIT_B: [Shape; 4] = [
    Shape { k: 768, n: 2304 },
    Shape { k: 768, n: 768 },
    Shape { k: 768, n: 3072 },
    Shape { k: 3072, n: 768 },
];

/// The shapes of the products in a model's blocks, each once.
fn block_shapes(model: &Model) -> Vec<Shape> {
    let mut shapes = Vec::new();
    let Sizes { dim, hidden, .. } = Sizes::new(model.config());
    for (k, n) in [(dim, 3 * dim), (dim, dim), (dim, hidden), (hidden, dim)] {
        let shape = Shape { k, n };
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    shapes
}

pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let output = Output::new(args.report);
    let forced = std::env::var_os(Isa::VARIABLE).is_some_and(|name| !name.is_empty());
    let isas = if forced { vec![Isa::from_env().map_err(device)?] } else { Isa::available() };
    let subject = Subject::new(args)?;
    let mut progress = Progress::new("measuring", isas.len() * subject.shapes.len(), args.report);
    for isa in isas {
        let pool = Pool::with_isa(args.machine.threads, isa).map_err(device)?;
        if !output.json() {
            progress.clear();
            output.line(format_args!(
                "{isa}, threads {}, rows {}, medians of {} runs",
                pool.threads(),
                subject.m,
                args.iterations
            ))?;
            output.line(Products::header())?;
        }
        for &shape in &subject.shapes {
            let mut products = Products::new(isa, &pool, subject.m, shape).map_err(device)?;
            products.measure(&pool, args.iterations);
            progress.clear();
            products.write(&output, &pool)?;
            progress.advance(1);
        }
        if let Some(block) = &subject.block {
            operations::bench(&output, &pool, block, subject.m, args.iterations)?;
        }
    }
    Ok(())
}

fn device(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Device, "device", error.to_string())
}
